#include "nn/experts.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <string>

#include "kernels/kernels.h"

namespace tte::nn {
namespace {

// The matrices [out, in] of all experts, which are one tensor, perhaps of matrices [in, out].
std::vector<kernels::Weight> matrices(const weights::StateDict& weights, const std::string& name,
                                      std::int64_t experts, std::int64_t out, std::int64_t in) {
  const std::vector<std::int64_t> as_multiplied = {experts, out, in}, exchanged = {experts, in, out};
  const bool is_exchanged = weights.shape(name) == exchanged && exchanged != as_multiplied;
  const at::Tensor all = weights.get(name, is_exchanged ? exchanged : as_multiplied);
  std::vector<kernels::Weight> made;
  made.reserve(static_cast<std::size_t>(experts));
  for (std::int64_t i = 0; i < experts; ++i)
    made.push_back(as_weight(weights, is_exchanged ? all[i].t().contiguous() : all[i]));
  return made;
}

}  // namespace

Linear plain_linear(const weights::StateDict& weights, const std::string& name, std::int64_t in,
                    std::int64_t out) {
  return Linear(kernels::Weight(weights.get(name + ".weight", {out, in})),
                weights.find(name + ".bias", {out}));
}

std::vector<Routed> route(const at::Tensor& logits, std::int64_t per_row, bool normalised,
                          at::ScalarType dtype) {
  auto [shares, chosen] = at::topk(at::softmax(logits.to(at::kFloat), 1), per_row, 1);
  if (normalised) shares = shares / shares.sum(1, /*keepdim=*/true);
  const at::Tensor on_host = chosen.to(at::kCPU).contiguous();
  const auto* experts = on_host.const_data_ptr<std::int64_t>();
  const auto count = static_cast<std::size_t>(logits.size(1));
  std::vector<std::vector<std::int64_t>> rows(count), places(count);
  for (std::int64_t place = 0; place < on_host.numel(); ++place) {
    const auto expert = static_cast<std::size_t>(experts[place]);
    rows[expert].push_back(place / per_row);
    places[expert].push_back(place);
  }
  const at::Tensor flat = shares.to(dtype).reshape({-1, 1});
  std::vector<Routed> routed(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (rows[i].empty()) continue;
    routed[i].rows = at::tensor(rows[i], at::kLong).to(logits.device());
    routed[i].shares = flat.index_select(0, at::tensor(places[i], at::kLong).to(logits.device()));
  }
  return routed;
}

Experts::Experts(const weights::StateDict& weights, const ExpertsShape& shape)
    : per_token_(shape.per_token),
      normalised_(shape.normalised),
      router_(plain_linear(weights, "gate", shape.hidden, shape.experts)) {
  const std::int64_t inner = shape.intermediate;
  if (weights.has("experts.gate_up_proj")) {
    auto gate_up = matrices(weights, "experts.gate_up_proj", shape.experts, 2 * inner, shape.hidden);
    auto down = matrices(weights, "experts.down_proj", shape.experts, shape.hidden, inner);
    for (std::size_t i = 0; i < gate_up.size(); ++i)
      experts_.push_back({Linear(std::move(gate_up[i])), Linear(std::move(down[i]))});
  } else {
    for (std::int64_t i = 0; i < shape.experts; ++i) {
      const weights::StateDict own = weights.select(fmt::format("experts.{}.", i));
      experts_.push_back({Linear::stacked(own, {"gate_proj", "up_proj"}, shape.hidden, {inner, inner}),
                          Linear(own, "down_proj", inner, shape.hidden)});
    }
  }
  if (shape.shared_intermediate == 0) return;
  shared_.emplace(Shared{GatedMlp(weights.select("shared_expert."), shape.hidden, shape.shared_intermediate),
                         plain_linear(weights, "shared_expert_gate", shape.hidden, 1)});
}

at::Tensor Experts::operator()(const at::Tensor& x) const {
  at::Tensor sum = at::zeros_like(x);
  const std::vector<Routed> routed = route(router_(x), per_token_, normalised_, x.scalar_type());
  for (std::size_t i = 0; i < routed.size(); ++i) {
    if (!routed[i].rows.defined()) continue;
    const Expert& expert = experts_[i];
    at::Tensor made = expert.down(expert.gate_up.silu_mul(x.index_select(0, routed[i].rows)));
    sum.index_add_(0, routed[i].rows, made.mul_(routed[i].shares));
  }
  if (!shared_) return sum;
  // By a kernel whose rows do not depend on where they stand, as those of at::sigmoid() do.
  const at::Tensor gate = shared_->gate(x).expand(x.sizes()).contiguous();
  return sum.add_(kernels::gated(shared_->mlp(x), gate, kernels::Gate::kSigmoid));
}

}  // namespace tte::nn
