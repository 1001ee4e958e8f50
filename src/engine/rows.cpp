#include "engine/rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/tensors.h"

namespace tte::engine {

at::Tensor select_rows(const at::Tensor& rows, const std::vector<std::int64_t>& wanted) {
  const auto count = static_cast<std::int64_t>(wanted.size());
  if (count == rows.size(0)) return rows;
  const at::Tensor index = kernels::host_tensor({count}, rows.device());
  std::copy(wanted.begin(), wanted.end(), index.mutable_data_ptr<std::int64_t>());
  return rows.index_select(0, kernels::upload(index, rows.device()));
}

}  // namespace tte::engine
