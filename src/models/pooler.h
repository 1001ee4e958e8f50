// Poolers: heads that make one vector of all hidden states of a sequence by attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "models/head_config.h"
#include "weights/state_dict.h"

namespace tte::models {

// const and thread-compatible.
class Pooler {
 public:
  virtual ~Pooler() = default;
  // [rows, hidden] -> [hidden].
  [[nodiscard]] virtual at::Tensor operator()(const at::Tensor& states) const = 0;
};

// Makes a pooler of the head's kind from its tensors. Throws ModelError for tensors that do not fit, and for numbers
// of attention heads that do not divide the hidden size.
std::unique_ptr<const Pooler> make_pooler(const HeadConfig& head, const weights::StateDict& weights,
                                          std::int64_t hidden);

}  // namespace tte::models
