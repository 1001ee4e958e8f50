// From tensors to what the kernels without torch take: their type, and plain pointers.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "kernels/types.h"

namespace tte::kernels {

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

// The address of element `offset`.
inline const void* at_element(const at::Tensor& x, std::int64_t offset) {
  return static_cast<const char*>(x.const_data_ptr()) + offset * x.element_size();
}
inline void* at_mutable_element(const at::Tensor& x, std::int64_t offset) {
  return static_cast<char*>(x.mutable_data_ptr()) + offset * x.element_size();
}

// A tensor on the CPU, pinned for a CUDA device, so that copies to it need not be waited for.
inline at::Tensor host_tensor(at::IntArrayRef sizes, at::Device device, at::ScalarType type = at::kLong) {
  return at::empty(sizes, at::TensorOptions(type).pinned_memory(device.is_cuda()));
}

// x on the device. Nobody waits for the copy: pageable memory is read before this returns, and torch keeps pinned
// memory as long as it takes.
inline at::Tensor upload(const at::Tensor& x, at::Device device) {
  return x.to(device, /*non_blocking=*/true);
}

// x, or a copy of it, with dense values in its last dimension.
inline at::Tensor dense_rows(const at::Tensor& x) {
  return x.dim() == 0 || x.stride(-1) == 1 || x.size(-1) <= 1 ? x : x.contiguous();
}

}  // namespace tte::kernels
