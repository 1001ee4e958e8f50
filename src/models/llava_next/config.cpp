#include "models/llava_next/config.h"

#include <fmt/core.h>

#include "models/llama_text.h"

namespace tte::models::llava_next {
namespace {

using base::JsonObject;

constexpr std::int64_t kMostSide = 1 << 16;  // The longest side of a tile, in pixels.

// One number, or a list of them, counted from behind where negative: layers of the tower, whose input is 0.
std::vector<std::int64_t> read_feature_layers(const JsonObject& root, std::int64_t depth) {
  constexpr const char* kKey = "vision_feature_layer";
  const base::Json* value = root.find(kKey);
  std::vector<std::int64_t> layers = value != nullptr && value->is_array()
                                         ? root.integers(kKey, {}, -depth - 1, depth)
                                         : std::vector{root.integer(kKey, -2, -depth - 1, depth)};
  if (layers.empty() || layers.size() > 64) root.reject(kKey, "it must name one layer, or up to 64");
  for (std::int64_t& layer : layers) layer += layer < 0 ? depth + 1 : 0;
  return layers;
}

// transformers hands the root's is_causal to the text model; a true one, in some kinds of attention, to the tower, too.
void read_causal(const JsonObject& root, const JsonObject& vision, TextConfig& text) {
  for (const JsonObject& object : {root, vision}) {
    if (object.flag("is_causal", false))
      object.reject("is_causal",
                    "transformers' kinds of attention make different things of it: leave it out");
  }
  if (root.has("is_causal")) text.causal = false;
}

VisionConfig read_vision(const JsonObject& root, const JsonObject& config) {
  if (const std::string type = config.text("model_type", "clip_vision_model"); type != "clip_vision_model")
    config.reject("model_type", "tte knows \"clip_vision_model\" here");
  VisionConfig vision;
  // A config that is there has the defaults of CLIP, another those of LLaVA-NeXT.
  const bool given = root.has("vision_config");
  const auto size = [&](const char* key, std::int64_t clip, std::int64_t fallback, std::int64_t most) {
    return config.integer(key, given ? clip : fallback, 1, most);
  };
  vision.depth = size("num_hidden_layers", 12, vision.depth, kMostLayers);
  vision.hidden_size = size("hidden_size", 768, vision.hidden_size, kMostSize);
  vision.heads = size("num_attention_heads", 12, vision.heads, kMostSize);
  vision.mlp_dim = size("intermediate_size", 3072, vision.mlp_dim, kMostSize);
  vision.image_size = size("image_size", 224, vision.image_size, kMostSide);
  vision.patch_size = size("patch_size", 32, vision.patch_size, kMostSide);
  if (config.integer("num_channels", 3, 1, 3) != 3) config.reject("num_channels", "tte knows 3 here");
  vision.norm_eps = config.number("layer_norm_eps", vision.norm_eps, 0, 1);
  vision.activation = read_activation(config, "hidden_act", "quick_gelu");
  vision.projector_activation = read_activation(root, "projector_hidden_act", "gelu");
  if (vision.hidden_size % vision.heads != 0) {
    config.reject("num_attention_heads", fmt::format("it must divide hidden_size, {}", vision.hidden_size));
  }
  vision.head_dim = vision.hidden_size / vision.heads;
  if (vision.image_size % vision.patch_size != 0)
    config.reject("patch_size", fmt::format("it must divide image_size, {}", vision.image_size));
  vision.feature_layers = read_feature_layers(root, vision.depth);
  return vision;
}

}  // namespace

void VisionConfig::add_to(base::Digester& digester) const {
  for (const std::int64_t value :
       {depth, hidden_size, heads, mlp_dim, image_size, patch_size, static_cast<std::int64_t>(activation),
        static_cast<std::int64_t>(projector_activation)}) {
    digester.number(value);
  }
  for (const std::int64_t layer : feature_layers) digester.number(layer);
  digester.bytes(&norm_eps, sizeof norm_eps);
}

Config load_config(const base::Checkpoint& checkpoint) {
  const ConfigFile file = read_config_file(checkpoint);
  const JsonObject root = file.root(), text = root.object("text_config");
  Config config;
  config.file = file.name;
  (void)text.choice("model_type", {"llama", "mistral"});  // Throws for others.
  config.text = read_llama_text(file);
  read_causal(root, file.vision(), config.text);
  config.projector_bias = root.flag("multimodal_projector_bias", true);
  config.vision = read_vision(root, file.vision());
  config.tiling = {read_pinpoints(root, config.vision.image_size), config.vision.image_size,
                   config.vision.side()};
  if (root.text("vision_feature_select_strategy", "default") != "default") {
    root.reject("vision_feature_select_strategy",
                "tte knows \"default\", which leaves out the class token, that has no place in a grid");
  }
  const char* token = root.has("image_token_index") ? "image_token_index" : "image_token_id";
  config.image_token = root.integer(token, 32000, 0, config.text.vocab_size - 1);
  return config;
}

}  // namespace tte::models::llava_next
