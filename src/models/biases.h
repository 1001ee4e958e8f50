// Biases that config.json and the checkpoint's tensors must agree about.
#pragma once

#include <string>
#include <vector>

#include "models/language_model.h"
#include "weights/state_dict.h"

namespace tte::models {

struct BiasRule {
  std::string module;  // "visual.projector.linear_1"
  bool has = false;    // Whether the model has a bias there.
  std::string key;     // config.json's, which says so; empty where the family does.
};

// A linear layer adds a bias where the checkpoint has one. transformers builds the model by config.json: what the
// checkpoint has beside it is left out, and what it lacks is made up. Throws ModelError naming the tensor for both, in
// decoder layers and in `others`.
void check_biases(const std::string& file, const Biases& biases, const std::vector<BiasRule>& others,
                  const weights::StateDict& weights);

}  // namespace tte::models
