#include "models/qwen/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace tte::models::qwen {

using base::JsonObject;

media::PatchSpec VisionConfig::patch_spec() const {
  media::PatchSpec spec;
  spec.patch_size = static_cast<int>(patch_size);
  spec.merge_size = static_cast<int>(merge_size);
  spec.temporal_patch_size = static_cast<int>(temporal_patch_size);
  return spec;
}

void VisionConfig::add_to(base::Digester& digester) const {
  for (const std::int64_t value :
       {depth, hidden_size, out_size, heads, mlp_dim, static_cast<std::int64_t>(activation), in_channels,
        patch_size, merge_size, temporal_patch_size}) {
    digester.number(value);
  }
  digester.bytes(&rope_theta, sizeof rope_theta);
}

void GridVisionConfig::add_to(base::Digester& digester) const {
  VisionConfig::add_to(digester);
  digester.number(num_positions);
  for (const std::int64_t block : deepstack) digester.number(block);
}

TextRules qwen2_rules() {
  TextConfig text;
  text.vocab_size = 152064;
  text.hidden_size = 8192;
  text.intermediate_size = 29568;
  text.layers = 80;
  text.heads = 64;
  text.kv_heads = 8;
  text.max_positions = 32768;
  text.rms_norm_eps = 1e-5;
  text.rope_theta = 1e6;
  TextRules rules;
  rules.defaults = std::move(text);
  rules.sections = {16, 24, 24};
  rules.biases.qkv = true;
  return rules;
}

TextRules qwen3_rules() {
  TextConfig text;
  text.vocab_size = 151936;
  text.hidden_size = 4096;
  text.intermediate_size = 22016;
  text.layers = 32;
  text.heads = 32;
  text.kv_heads = 32;
  text.head_dim = 128;
  text.max_positions = 32768;
  text.qk_norm = true;
  TextRules rules;
  rules.defaults = std::move(text);
  rules.free_head_dim = true;
  rules.biases.by_attention_key = true;
  return rules;
}

void read_qwen3_mixture(const JsonObject& config, TextConfig& text) {
  read_experts(config, text);
  const std::int64_t step = config.integer("decoder_sparse_step", 1, 1, kMostLayers);
  const auto plain = config.integers("mlp_only_layers", {}, 0, text.layers - 1);
  for (std::int64_t i = 0; i < text.layers; ++i) {
    const bool listed = std::find(plain.begin(), plain.end(), i) != plain.end();
    text.expert_layers[static_cast<std::size_t>(i)] = !listed && (i + 1) % step == 0;
  }
}

void read_shared(const JsonObject& config, VisionConfig& vision) {
  // transformers' names for them in all models, which it prefers.
  const auto key = [&](const char* common, const char* own) { return config.has(common) ? common : own; };
  vision.depth = config.integer(key("num_hidden_layers", "depth"), vision.depth, 1, kMostLayers);
  vision.heads = config.integer(key("num_attention_heads", "num_heads"), vision.heads, 1, kMostSize);
  vision.in_channels = config.integer("in_channels", vision.in_channels, 3, 3);
  vision.patch_size = config.integer("patch_size", vision.patch_size, 1, 1024);
  vision.merge_size = config.integer("spatial_merge_size", vision.merge_size, 1, 64);
  vision.temporal_patch_size = config.integer("temporal_patch_size", vision.temporal_patch_size, 1, 64);
  const JsonObject rope = rope_of(config);
  rope_type(rope, {"axial", "default"});
  vision.rope_theta = rope.number("rope_theta", vision.rope_theta, 0, kMostTheta);
}

void finish(const JsonObject& config, const VisionKeys& keys, const TextConfig& text, VisionConfig& vision) {
  if (vision.hidden_size % vision.heads != 0 || vision.hidden_size / vision.heads % 4 != 0) {
    config.reject("num_heads", fmt::format("{} {} must be this many heads of a size that is a multiple of 4",
                                           keys.hidden_size, vision.hidden_size));
  }
  vision.head_dim = vision.hidden_size / vision.heads;
  if (vision.out_size != text.hidden_size) {
    config.reject(keys.out_size,
                  fmt::format("it must be the text model's hidden_size, {}", text.hidden_size));
  }
}

GridVisionConfig read_grid_vision(const JsonObject& config, const TextConfig& text) {
  GridVisionConfig vision;
  vision.depth = 27;
  vision.patch_size = 16;
  read_shared(config, vision);
  vision.hidden_size = config.integer("hidden_size", 1152, 1, kMostSize);
  vision.out_size = config.integer("out_hidden_size", 3584, 1, kMostSize);
  vision.mlp_dim = config.integer("intermediate_size", 4304, 1, kMostSize);
  vision.activation = read_activation(config, "hidden_act", "gelu_pytorch_tanh");
  vision.num_positions = config.integer("num_position_embeddings", vision.num_positions, 1, kMostSize);
  finish(config, {"hidden_size", "out_hidden_size"}, text, vision);
  return vision;
}

PlaceholderTokens read_tokens(const ConfigFile& file, const TextConfig& text, const VisionConfig& vision,
                              const TokenIds& defaults) {
  const JsonObject root = file.root();
  const std::int64_t image = root.integer("image_token_id", defaults.image, 0, text.vocab_size - 1);
  const std::int64_t video = root.integer("video_token_id", defaults.video, 0, text.vocab_size - 1);
  if (image == video) root.reject("video_token_id", "images and videos need different placeholders");
  return {image, video, text.vocab_size, vision.merge_size};
}

}  // namespace tte::models::qwen
