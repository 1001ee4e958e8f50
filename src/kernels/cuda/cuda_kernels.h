// The CUDA implementations behind kernels.h, which states what each does. Arguments were checked by
// dispatch.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/table.h"

namespace tte::kernels::cuda {

// Flash attention wants pages of a multiple of 256 tokens.
inline constexpr std::int64_t kCacheBlockSize = 256;

Linear linear;
LinearFloat linear_float;
decltype(kernels::rms_norm) rms_norm;
decltype(kernels::add_rms_norm) add_rms_norm;
decltype(kernels::layer_norm) layer_norm;
decltype(kernels::silu_mul) silu_mul;
decltype(kernels::activate) activate;
decltype(kernels::gated) gated;
decltype(kernels::rope_) rope;
decltype(kernels::attention) attention;
decltype(kernels::store_kv) store_kv;
decltype(kernels::paged_attention) paged_attention;
decltype(kernels::causal_conv_silu) causal_conv_silu;
decltype(kernels::gated_delta_rule) gated_delta_rule;

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
