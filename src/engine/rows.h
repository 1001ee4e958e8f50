// Rows of a tensor by index.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tte::engine {

// An int64 tensor on the CPU, pinned for a CUDA device, so that copies to it need not be waited for.
at::Tensor host_tensor(at::IntArrayRef sizes, at::Device device);

// Rows `wanted` (ascending) of `rows` [n, ...]; `rows` itself when they are all of them. No host-device sync.
at::Tensor select_rows(const at::Tensor& rows, const std::vector<std::int64_t>& wanted);

}  // namespace tte::engine
