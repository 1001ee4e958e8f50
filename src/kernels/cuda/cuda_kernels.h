// The CUDA implementations behind kernels.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/table.h"

namespace tte::kernels::cuda {

// Flash attention wants pages of a multiple of 256 tokens.
inline constexpr std::int64_t kCacheBlockSize = 256;

#include "kernels/implementations.h"

// A host vector on the device. All layers of a step ask for the same ones: the last few are kept.
at::Tensor on_device(const std::vector<std::int32_t>& values, at::Device device);

inline Type type_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kBFloat16:
      return Type::kBFloat16;
    case at::kHalf:
      return Type::kHalf;
    default:  // dispatch.cpp lets nothing else through.
      return Type::kFloat;
  }
}

// x, or a copy of it, with dense values in its last dimension.
inline at::Tensor dense_rows(const at::Tensor& x) {
  return x.dim() == 0 || x.stride(-1) == 1 || x.size(-1) <= 1 ? x : x.contiguous();
}

}  // namespace tte::kernels::cuda
