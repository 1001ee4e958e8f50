// A mixture of experts in the place of a layer's MLP.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/weight.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "weights/state_dict.h"

namespace tte::nn {

// A small matrix that is never rounded, since it decides which way a row goes; `name`.bias where there is one.
Linear plain_linear(const weights::StateDict& weights, const std::string& name, std::int64_t in,
                    std::int64_t out);

// The rows that go to an expert, and each one's share of what they become.
struct Routed {
  at::Tensor rows;    // int64 [n], ascending; undefined where there are none.
  at::Tensor shares;  // [n, 1]
};

// For each expert, which rows of `logits` [rows, experts] it is among the `per_row` likeliest ones of. Shares are
// probabilities, in `dtype`, which are divided by the sum of a row's where they are to be normalised.
std::vector<Routed> route(const at::Tensor& logits, std::int64_t per_row, bool normalised,
                          at::ScalarType dtype);

struct ExpertsShape {
  std::int64_t hidden = 0;
  std::int64_t experts = 0;
  std::int64_t per_token = 0;            // Experts that each row goes through.
  std::int64_t intermediate = 0;         // Each expert's,
  std::int64_t shared_intermediate = 0;  // and of the one that all rows go through; 0: there is none.
  bool normalised = true;                // A row's probabilities are divided by their sum.
};

// Each row goes through the experts (gated MLPs) that its router finds most likely, and is the sum of what they make of
// it by their probabilities, which are divided by their sum where the model says so. With a shared expert, what that
// makes of every row is added, times the sigmoid of its gate. A row's result does not depend on the rows beside it:
// experts add to it in the order of their numbers.
//
// Reads gate.weight (the router), experts.* and shared_expert.*, shared_expert_gate.weight. Experts are there in any of
// three layouts: experts.gate_up_proj [experts, 2 intermediate, hidden] and experts.down_proj [experts, hidden,
// intermediate]; the same with the last two dimensions exchanged, as Qwen3-VL's were published; or each expert's
// experts.0.gate_proj.weight, up_proj and down_proj.
class Experts final : public FeedForward {
 public:
  Experts(const weights::StateDict& weights, const ExpertsShape& shape);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const override;

 private:
  struct Expert {
    Linear gate_up, down;
  };
  struct Shared {
    GatedMlp mlp;
    Linear gate;
  };

  std::int64_t per_token_;
  bool normalised_;
  Linear router_;
  std::vector<Expert> experts_;
  std::optional<Shared> shared_;
};

}  // namespace tte::nn
