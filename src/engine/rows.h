// Rows of a tensor by index.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tte::engine {

// Rows `wanted` (ascending) of `rows` [n, ...]; `rows` itself when they are all of them. No host-device sync.
at::Tensor select_rows(const at::Tensor& rows, const std::vector<std::int64_t>& wanted);

}  // namespace tte::engine
