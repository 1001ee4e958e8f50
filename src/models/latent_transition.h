// From one latent step of a model to the next: a mixture of experts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "models/model.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "weights/state_dict.h"

namespace tte::models {

// PLUME's transition (arXiv 2604.02073). Of a state z of step t, with a context c,
//   z + shared_expert(u) + sum_k p_k expert_k(u),  u = ln(z),
// where the sum is over the likeliest experts by p = softmax(router([z + c; step_embed_t])), whose p are not divided by
// their sum. Steps behind the last row of step_embed have that row. An expert is fc2(gelu(fc1(u))).
//
// A row's result has the same bits whatever rows stand beside it. const and thread-compatible.
class LatentTransition {
 public:
  // Reads ln, step_embed [steps, hidden], router [experts, 2 hidden], experts.0. and on, and shared_expert. if it is
  // there. Throws ModelError for tensors that are missing or do not fit, and for fewer experts than a step goes
  // through.
  LatentTransition(const weights::StateDict& weights, const LatentOptions& options, std::int64_t hidden);

  // As Model::next_latent().
  [[nodiscard]] at::Tensor operator()(const at::Tensor& states, const at::Tensor& contexts,
                                      const std::vector<std::int64_t>& steps) const;

 private:
  std::int64_t per_step_;
  at::Tensor excluded_;    // int64 [excluded experts]; undefined when none.
  at::Tensor step_embed_;  // [steps, hidden]
  nn::LayerNorm norm_;
  nn::Linear router_;
  std::vector<nn::Mlp> experts_;
  std::optional<nn::Mlp> shared_;
};

}  // namespace tte::models
