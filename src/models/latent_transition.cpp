#include "models/latent_transition.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <string>

#include "base/printable.h"
#include "nn/experts.h"
#include "tte/error.h"

namespace tte::models {
namespace {

const weights::StateDict& with_tensors(const weights::StateDict& weights, const LatentOptions& options) {
  if (!weights.names().empty()) return weights;
  throw ModelError(fmt::format(
      "The checkpoint has no tensors whose names begin with \"{}\", which the recipe's latent "
      "steps go through: give it another recipe, or take the checkpoint that was trained with them.",
      base::printable(options.tensors, 80)));
}

// How many rows a tensor has, whose other sizes are checked where it is taken out.
std::int64_t rows_of(const weights::StateDict& weights, const std::string& name) {
  const std::vector<std::int64_t> shape = weights.shape(name);
  return shape.empty() ? 0 : shape.front();
}

nn::Mlp read_expert(const weights::StateDict& weights, std::int64_t hidden) {
  return nn::Mlp(weights, "fc1", "fc2", hidden, rows_of(weights, "fc1.weight"), hidden,
                 kernels::Activation::kGelu);
}

}  // namespace

LatentTransition::LatentTransition(const weights::StateDict& weights, const LatentOptions& options,
                                   std::int64_t hidden)
    : per_step_(options.experts_per_step),
      step_embed_(with_tensors(weights, options)
                      .get("step_embed.weight", {rows_of(weights, "step_embed.weight"), hidden})),
      norm_(weights, "ln", hidden),
      router_(nn::plain_linear(weights, "router", 2 * hidden, rows_of(weights, "router.weight"))) {
  const std::int64_t experts = router_.weight().outputs();
  for (const std::int64_t expert : options.excluded_experts) {
    if (expert < experts) continue;
    throw ModelError(
        fmt::format("The recipe excludes expert {} of \"{}\", which has {}: their numbers are 0 to {}.",
                    expert, base::printable(options.tensors, 80), experts, experts - 1));
  }
  const auto left = experts - static_cast<std::int64_t>(options.excluded_experts.size());
  if (per_step_ > left) {
    throw ModelError(
        fmt::format("The recipe sends each latent step through {} experts of \"{}\", where {} of {} are not "
                    "excluded: \"experts_per_step\" must not be more.",
                    per_step_, base::printable(options.tensors, 80), left, experts));
  }
  if (step_embed_.size(0) == 0)
    throw ModelError(fmt::format("The tensor {}step_embed.weight has no rows: save the checkpoint again.",
                                 weights.prefix()));
  if (!options.excluded_experts.empty())
    excluded_ = at::tensor(options.excluded_experts, at::kLong).to(step_embed_.device());
  for (std::int64_t i = 0; i < experts; ++i)
    experts_.push_back(read_expert(weights.select(fmt::format("experts.{}.", i)), hidden));
  const weights::StateDict shared = weights.select("shared_expert.");
  if (!shared.names().empty()) shared_.emplace(read_expert(shared, hidden));
}

at::Tensor LatentTransition::operator()(const at::Tensor& states, const at::Tensor& contexts,
                                        const std::vector<std::int64_t>& steps) const {
  std::vector<std::int64_t> rows;
  rows.reserve(steps.size());
  for (const std::int64_t step : steps) rows.push_back(std::min(step, step_embed_.size(0) - 1));
  const at::Tensor embedded =
      step_embed_.index_select(0, at::tensor(rows, at::kLong).to(step_embed_.device()));
  at::Tensor logits = router_(at::cat({states + contexts, embedded}, 1)).to(at::kFloat);
  if (excluded_.defined()) logits.index_fill_(1, excluded_, -std::numeric_limits<float>::infinity());
  const at::Tensor u = norm_(states);
  at::Tensor mixed = shared_ ? (*shared_)(u) : at::zeros_like(u);
  const std::vector<nn::Routed> routed = nn::route(logits, per_step_, /*normalised=*/false, u.scalar_type());
  for (std::size_t i = 0; i < routed.size(); ++i) {
    if (!routed[i].rows.defined()) continue;
    at::Tensor made = experts_[i](u.index_select(0, routed[i].rows));
    mixed.index_add_(0, routed[i].rows, made.mul_(routed[i].shares));
  }
  return states + mixed;
}

}  // namespace tte::models
