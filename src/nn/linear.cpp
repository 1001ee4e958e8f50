#include "nn/linear.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/packed_weight.h"
#include "tte/error.h"

namespace tte::nn {

bool is_packed(const weights::StateDict& weights, const std::string& name, std::int64_t out,
               std::int64_t in) {
  return kernels::is_packed(weights.linears(), out, in, weights.dtype(name));
}

kernels::Weight load_weight(const weights::StateDict& weights, const std::vector<std::string>& names,
                            const std::vector<std::vector<std::int64_t>>& shapes) {
  const base::LinearFormat format = weights.linears();
  const std::int64_t inputs = shapes.front().back();
  std::int64_t outputs = 0;
  bool all_packed = true;
  for (std::size_t i = 0; i < names.size(); ++i) {
    outputs += shapes[i].front();
    all_packed =
        all_packed && weights.has(names[i]) && is_packed(weights, names[i], shapes[i].front(), inputs);
  }
  if (!all_packed) return weights.stacked(names, shapes);
  const at::Device device = weights.device();
  const weights::StateDict::Packer pack = {
      [format, device](const at::Tensor& matrix) { return kernels::pack(matrix, format, device); },
      [format, device, inputs](const std::vector<base::RoundedMatrix>& parts) {
        return kernels::pack(parts, inputs, format, device);
      }};
  return kernels::packed_weight(weights.packed(names, shapes, pack), format, outputs, inputs,
                                weights.dtype(names.front()));
}

kernels::Weight as_weight(const weights::StateDict& weights, const at::Tensor& matrix) {
  const base::LinearFormat format = weights.linears();
  const std::int64_t out = matrix.size(0), in = matrix.size(1);
  if (!kernels::is_packed(format, out, in, matrix.scalar_type())) return matrix;
  return kernels::packed_weight(kernels::pack(matrix, format, matrix.device()), format, out, in,
                                matrix.scalar_type());
}

Linear::Linear(const weights::StateDict& weights, const std::string& name, std::int64_t in, std::int64_t out)
    : weight_(load_weight(weights, {name + ".weight"}, {{out, in}})),
      bias_(weights.find(name + ".bias", {out})) {}

Linear::Linear(kernels::Weight weight, std::optional<at::Tensor> bias)
    : weight_(std::move(weight)), bias_(std::move(bias)) {}

Linear Linear::stacked(const weights::StateDict& weights, const std::vector<std::string>& names,
                       std::int64_t in, const std::vector<std::int64_t>& outs) {
  std::vector<std::string> weight_names, bias_names;
  std::vector<std::vector<std::int64_t>> weight_shapes, bias_shapes;
  for (std::size_t i = 0; i < names.size(); ++i) {
    weight_names.push_back(names[i] + ".weight");
    weight_shapes.push_back({outs[i], in});
    if (!weights.has(names[i] + ".bias")) continue;
    bias_names.push_back(names[i] + ".bias");
    bias_shapes.push_back({outs[i]});
  }
  if (!bias_names.empty() && bias_names.size() != names.size()) {
    const auto bare = std::find_if(names.begin(), names.end(),
                                   [&](const std::string& name) { return !weights.has(name + ".bias"); });
    throw ModelError(fmt::format(
        "The checkpoint has {0}{1} but no {0}{2}.bias: projections of one input need a bias each, or none.",
        weights.prefix(), bias_names.front(), *bare));
  }
  kernels::Weight weight = load_weight(weights, weight_names, weight_shapes);
  if (bias_names.empty()) return Linear(std::move(weight));
  return Linear(std::move(weight), weights.stacked(bias_names, bias_shapes));
}

Linear Linear::outputs(std::int64_t begin, std::int64_t count) const {
  std::optional<at::Tensor> bias;
  if (bias_) bias = bias_->narrow(0, begin, count);
  return Linear(weight_.part(begin, count), std::move(bias));
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return kernels::linear(x, weight_, bias_);
}

at::Tensor Linear::activated(const at::Tensor& x, kernels::Activation activation) const {
  return kernels::linear_activated(x, weight_, bias_, activation);
}

at::Tensor Linear::silu_mul(const at::Tensor& x) const {
  return kernels::linear_silu_mul(x, weight_, bias_);
}

}  // namespace tte::nn
