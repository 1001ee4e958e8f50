#include "models/qwen2_5_vl/config.h"

#include <fmt/core.h>

namespace tte::models::qwen2_5_vl {
namespace {

VisionConfig read_vision(const base::JsonObject& config, const TextConfig& text) {
  VisionConfig vision;
  qwen::read_shared(config, vision);
  vision.hidden_size = config.integer("hidden_size", 3584, 1, kMostSize);
  vision.out_size = config.integer("out_hidden_size", 3584, 1, kMostSize);
  vision.mlp_dim = config.integer("intermediate_size", 3420, 1, kMostSize);
  if (config.text("hidden_act", "silu") != "silu") config.reject("hidden_act", "tte knows \"silu\" here");
  vision.window_size = config.integer("window_size", vision.window_size, 1, 1 << 16);
  if (vision.window() < 1) {
    config.reject("window_size", fmt::format("a window must hold at least one merged token, {} pixels",
                                             vision.merge_size * vision.patch_size));
  }
  vision.full_blocks = config.integers("fullatt_block_indexes", {7, 15, 23, 31}, 0, kMostLayers);
  vision.tokens_per_second = config.number("tokens_per_second", vision.tokens_per_second, 0, 1e6);
  qwen::finish(config, {"hidden_size", "out_hidden_size"}, text, vision);
  return vision;
}

}  // namespace

void VisionConfig::add_to(base::Digester& digester) const {
  qwen::VisionConfig::add_to(digester);
  digester.number(window_size);
  for (const std::int64_t block : full_blocks) digester.number(block);
}

Config load_config(const base::Checkpoint& checkpoint) {
  return qwen::read_config(read_config_file(checkpoint), qwen::qwen2_rules(), read_vision);
}

}  // namespace tte::models::qwen2_5_vl
