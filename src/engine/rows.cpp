#include "engine/rows.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tte::engine {

at::Tensor host_tensor(at::IntArrayRef sizes, at::Device device) {
  return at::empty(sizes, at::TensorOptions(at::kLong).pinned_memory(device.is_cuda()));
}

at::Tensor select_rows(const at::Tensor& rows, const std::vector<std::int64_t>& wanted) {
  const auto count = static_cast<std::int64_t>(wanted.size());
  if (count == rows.size(0)) return rows;
  const at::Tensor index = host_tensor({count}, rows.device());
  std::copy(wanted.begin(), wanted.end(), index.mutable_data_ptr<std::int64_t>());
  return rows.index_select(0, index.to(rows.device(), /*non_blocking=*/true));
}

}  // namespace tte::engine
