#include "models/qwen3_vl/config.h"

#include <algorithm>
#include <functional>

namespace tte::models::qwen3_vl {
namespace {

TextRules text_rules() {
  TextRules rules = qwen::qwen3_rules();
  rules.defaults.max_positions = 128000;
  rules.defaults.rope_theta = 5e5;
  rules.sections = {24, 20, 20};
  rules.window_keys = {"sliding_window", "attention_chunk_size"};
  rules.interleaved = true;
  return rules;
}

TextRules mixture_rules() {
  TextRules rules = text_rules();
  rules.defaults.hidden_size = 2048;
  rules.defaults.intermediate_size = 5632;
  rules.defaults.layers = 24;
  rules.defaults.heads = 16;
  rules.defaults.kv_heads = 16;
  rules.defaults.head_dim = 0;
  rules.defaults.experts = {.experts = 60, .per_token = 4, .intermediate = 1408};
  rules.read_own = qwen::read_qwen3_mixture;
  rules.window_keys = {"attention_chunk_size"};
  return rules;
}

qwen::GridVisionConfig read_vision(const base::JsonObject& config, const TextConfig& text) {
  qwen::GridVisionConfig vision = qwen::read_grid_vision(config, text);
  vision.deepstack = config.integers("deepstack_visual_indexes", {8, 16, 24}, 0, vision.depth - 1);
  if (std::adjacent_find(vision.deepstack.begin(), vision.deepstack.end(), std::greater_equal<>()) !=
      vision.deepstack.end()) {
    config.reject("deepstack_visual_indexes", "each block must be above the one before it");
  }
  return vision;
}

}  // namespace

Config load_config(const base::Checkpoint& checkpoint) {
  const ConfigFile file = read_config_file(checkpoint);
  return qwen::read_config(file, file.type() == "qwen3_vl_moe" ? mixture_rules() : text_rules(), read_vision);
}

}  // namespace tte::models::qwen3_vl
