#include "models/qwen2_vl/config.h"

namespace tte::models::qwen2_vl {
namespace {

qwen::VisionConfig read_vision(const base::JsonObject& config, const TextConfig& text) {
  qwen::VisionConfig vision;
  qwen::read_shared(config, vision);
  vision.hidden_size = config.integer("embed_dim", vision.hidden_size, 1, kMostSize);
  vision.out_size = config.integer("hidden_size", vision.out_size, 1, kMostSize);
  vision.mlp_dim = static_cast<std::int64_t>(static_cast<double>(vision.hidden_size) *
                                             config.number("mlp_ratio", 4, 0, 1024));
  if (vision.mlp_dim < 1) config.reject("mlp_ratio", "it leaves nothing of embed_dim");
  vision.activation = read_activation(config, "hidden_act", "quick_gelu");
  qwen::finish(config, {"embed_dim", "hidden_size"}, text, vision);
  return vision;
}

}  // namespace

Config load_config(const base::Checkpoint& checkpoint) {
  return qwen::read_config(read_config_file(checkpoint), qwen::qwen2_rules(), read_vision);
}

}  // namespace tte::models::qwen2_vl
