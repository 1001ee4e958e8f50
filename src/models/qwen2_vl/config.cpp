#include "models/qwen2_vl/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace tte::models::qwen2_vl {
namespace {

using base::JsonObject;

// Far past every model there is, and small enough that no product of two overflows.
constexpr std::int64_t kMostSize = std::int64_t{1} << 24;
constexpr std::int64_t kMostLayers = 1024;
constexpr double kMostTheta = 1e12;

// The rope parameters of `config`, whichever of their two names they have.
JsonObject rope_of(const JsonObject& config) {
  return config.object(config.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
}

void check_rope_type(const JsonObject& rope, const std::vector<std::string>& known) {
  const std::string key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string type = rope.text(key, known.front());
  if (std::find(known.begin(), known.end(), type) == known.end()) {
    rope.reject(key, fmt::format("tte knows \"{}\" and \"{}\" for this family", known[0], known[1]));
  }
}

void read_text_rope(const JsonObject& config, TextConfig& text) {
  const JsonObject rope = rope_of(config);
  check_rope_type(rope, {"default", "mrope"});
  text.rope_theta = config.number("rope_theta", text.rope_theta, 0, kMostTheta);
  text.rope_theta = rope.number("rope_theta", text.rope_theta, 0, kMostTheta);
  const std::vector<std::int64_t> sections =
      rope.integers("mrope_section", {text.mrope_section.begin(), text.mrope_section.end()});
  std::int64_t sum = 0;
  for (const std::int64_t section : sections) {
    if (section < 0 || section > text.head_dim)
      rope.reject("mrope_section", "a section cannot have this size");
    sum += section;
  }
  if (sections.size() != text.mrope_section.size() || sum != text.head_dim / 2) {
    rope.reject("mrope_section", fmt::format("it must be three sizes whose sum is half of the head size, {}",
                                             text.head_dim / 2));
  }
  std::copy(sections.begin(), sections.end(), text.mrope_section.begin());
}

TextConfig read_text(const JsonObject& config) {
  TextConfig text;
  text.vocab_size = config.integer("vocab_size", text.vocab_size, 1, kMostSize);
  text.hidden_size = config.integer("hidden_size", text.hidden_size, 1, kMostSize);
  text.intermediate_size = config.integer("intermediate_size", text.intermediate_size, 1, kMostSize);
  text.layers = config.integer("num_hidden_layers", text.layers, 1, kMostLayers);
  text.heads = config.integer("num_attention_heads", text.heads, 1, text.hidden_size);
  text.kv_heads = config.integer("num_key_value_heads", text.kv_heads, 1, text.heads);
  text.max_positions =
      config.integer("max_position_embeddings", text.max_positions, 1, std::int64_t{1} << 40);
  text.rms_norm_eps = config.number("rms_norm_eps", text.rms_norm_eps, 0, 1);
  if (text.hidden_size % text.heads != 0) {
    config.reject("num_attention_heads", fmt::format("it must divide hidden_size, {}", text.hidden_size));
  }
  if (text.heads % text.kv_heads != 0) {
    config.reject("num_key_value_heads", fmt::format("it must divide num_attention_heads, {}", text.heads));
  }
  text.head_dim = text.hidden_size / text.heads;
  if (text.head_dim % 2 != 0) {
    config.reject("num_attention_heads",
                  fmt::format("heads of odd size {} cannot be rotated", text.head_dim));
  }
  if (config.integer("head_dim", text.head_dim, 1, kMostSize) != text.head_dim) {
    config.reject("head_dim",
                  fmt::format("this family needs hidden_size / num_attention_heads, {}", text.head_dim));
  }
  if (config.text("hidden_act", "silu") != "silu") config.reject("hidden_act", "tte knows \"silu\" here");
  if (config.flag("use_sliding_window", false)) {
    config.reject("use_sliding_window", "sliding-window attention is not supported for this family");
  }
  for (const std::string& type : config.texts("layer_types")) {
    if (type != "full_attention") config.reject("layer_types", "only \"full_attention\" is supported");
  }
  read_text_rope(config, text);
  return text;
}

VisionConfig read_vision(const JsonObject& config) {
  static const std::map<std::string, kernels::Activation> activations = {
      {"quick_gelu", kernels::Activation::kQuickGelu},
      {"gelu", kernels::Activation::kGelu},
      {"gelu_pytorch_tanh", kernels::Activation::kGeluTanh},
      {"silu", kernels::Activation::kSilu},
  };
  VisionConfig vision;
  vision.depth = config.integer("depth", vision.depth, 1, kMostLayers);
  vision.embed_dim = config.integer("embed_dim", vision.embed_dim, 1, kMostSize);
  vision.hidden_size = config.integer("hidden_size", vision.hidden_size, 1, kMostSize);
  vision.heads = config.integer("num_heads", vision.heads, 1, vision.embed_dim);
  if (vision.embed_dim % vision.heads != 0 || vision.embed_dim / vision.heads % 4 != 0) {
    config.reject("num_heads",
                  fmt::format("embed_dim {} must be this many heads of a size that is a multiple of 4",
                              vision.embed_dim));
  }
  vision.head_dim = vision.embed_dim / vision.heads;
  vision.mlp_dim = static_cast<std::int64_t>(static_cast<double>(vision.embed_dim) *
                                             config.number("mlp_ratio", 4, 0, 1024));
  if (vision.mlp_dim < 1) config.reject("mlp_ratio", "it leaves nothing of embed_dim");
  const auto activation = activations.find(config.text("hidden_act", "quick_gelu"));
  if (activation == activations.end()) {
    config.reject("hidden_act", "tte knows quick_gelu, gelu, gelu_pytorch_tanh and silu here");
  }
  vision.activation = activation->second;
  vision.in_channels = config.integer("in_channels", vision.in_channels, 3, 3);
  vision.patch_size = config.integer("patch_size", vision.patch_size, 1, 1024);
  vision.merge_size = config.integer("spatial_merge_size", vision.merge_size, 1, 64);
  vision.temporal_patch_size = config.integer("temporal_patch_size", vision.temporal_patch_size, 1, 64);
  const JsonObject rope = rope_of(config);
  check_rope_type(rope, {"axial", "default"});
  vision.rope_theta = rope.number("rope_theta", vision.rope_theta, 0, kMostTheta);
  return vision;
}

}  // namespace

media::PatchSpec VisionConfig::patch_spec() const {
  media::PatchSpec spec;
  spec.patch_size = static_cast<int>(patch_size);
  spec.merge_size = static_cast<int>(merge_size);
  spec.temporal_patch_size = static_cast<int>(temporal_patch_size);
  return spec;
}

Config load_config(const std::filesystem::path& checkpoint) {
  Config config;
  config.file = base::shown(checkpoint / "config.json");
  const base::Json json = base::read_json(checkpoint / "config.json");
  const JsonObject root(json, config.file);
  const JsonObject text = root.has("text_config") ? root.object("text_config") : root;
  const JsonObject vision = root.object("vision_config");
  config.text = read_text(text);
  config.vision = read_vision(vision);
  if (config.vision.hidden_size != config.text.hidden_size) {
    vision.reject("hidden_size",
                  fmt::format("it must be the text model's hidden_size, {}", config.text.hidden_size));
  }
  config.image_token = root.integer("image_token_id", config.image_token, 0, config.text.vocab_size - 1);
  config.video_token = root.integer("video_token_id", config.video_token, 0, config.text.vocab_size - 1);
  if (config.image_token == config.video_token) {
    root.reject("video_token_id", "images and videos need different placeholders");
  }
  config.tied = root.flag("tie_word_embeddings", false) || text.flag("tie_word_embeddings", false);
  return config;
}

}  // namespace tte::models::qwen2_vl
