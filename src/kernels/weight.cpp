#include "kernels/weight.h"

#include <ATen/ATen.h>

#include <utility>

#include "kernels/table.h"

namespace tte::kernels {
namespace {

at::Tensor plain_linear(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
  return table_of(x).linear(x, weight.values().data, bias);
}

at::Tensor plain_linear_float(const at::Tensor& x, const Weight& weight) {
  return table_of(x).linear_float(x, weight.values().data);
}

Weight plain_part(const Weight& weight, std::int64_t begin, std::int64_t count) {
  return {weight.values().data.narrow(0, begin, count)};
}

constexpr WeightFormat kPlain{.linear = plain_linear, .linear_float = plain_linear_float, .part = plain_part};

}  // namespace

Weight::Weight(at::Tensor matrix) : format_(&kPlain), dtype_(matrix.scalar_type()), device_(matrix.device()) {
  TORCH_CHECK(matrix.dim() == 2, "a weight must be [outputs, inputs], not ", matrix.sizes());
  outputs_ = matrix.size(0);
  inputs_ = matrix.size(1);
  values_.data = std::move(matrix);
}

Weight Weight::part(std::int64_t begin, std::int64_t count) const {
  TORCH_CHECK(begin >= 0 && count >= 0 && begin <= outputs_ - count, "a weight of ", outputs_,
              " outputs has no part ", begin, " .. ", begin + count);
  return format_->part(*this, begin, count);
}

}  // namespace tte::kernels
