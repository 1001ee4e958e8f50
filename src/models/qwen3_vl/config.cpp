#include "models/qwen3_vl/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "nn/rope.h"

namespace tte::models::qwen3_vl {
namespace {

TextRules text_rules() {
  TextRules rules = qwen::qwen3_rules();
  rules.defaults.max_positions = 128000;
  rules.defaults.rope_theta = 5e5;
  rules.sections = {24, 20, 20};
  rules.axes = nn::interleaved_sections;
  return rules;
}

VisionConfig read_vision(const base::JsonObject& config, const TextConfig& text) {
  VisionConfig vision;
  vision.depth = 27;
  vision.patch_size = 16;
  qwen::read_shared(config, vision);
  vision.hidden_size = config.integer("hidden_size", 1152, 1, kMostSize);
  vision.out_size = config.integer("out_hidden_size", 3584, 1, kMostSize);
  vision.mlp_dim = config.integer("intermediate_size", 4304, 1, kMostSize);
  vision.activation = read_activation(config, "hidden_act", "gelu_pytorch_tanh");
  vision.num_positions = config.integer("num_position_embeddings", vision.num_positions, 1, kMostSize);
  vision.deepstack = config.integers("deepstack_visual_indexes", {8, 16, 24}, 0, vision.depth - 1);
  if (std::adjacent_find(vision.deepstack.begin(), vision.deepstack.end(), std::greater_equal<>()) !=
      vision.deepstack.end()) {
    config.reject("deepstack_visual_indexes", "each block must be above the one before it");
  }
  qwen::finish(config, {"hidden_size", "out_hidden_size"}, text, vision);
  return vision;
}

}  // namespace

void VisionConfig::add_to(base::Digester& digester) const {
  qwen::VisionConfig::add_to(digester);
  digester.number(num_positions);
  for (const std::int64_t block : deepstack) digester.number(block);
}

Config load_config(const base::Checkpoint& checkpoint) {
  return qwen::load_config(checkpoint, text_rules(), read_vision);
}

}  // namespace tte::models::qwen3_vl
