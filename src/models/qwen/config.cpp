#include "models/qwen/config.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "nn/rope.h"

namespace tte::models::qwen {
namespace {

using base::JsonObject;

// The rope parameters of `config`, whichever of their two names they have.
JsonObject rope_of(const JsonObject& config) {
  return config.object(config.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
}

void check_rope_type(const JsonObject& rope, const std::vector<std::string>& known) {
  const std::string key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string type = rope.text(key, known.front());
  if (std::find(known.begin(), known.end(), type) == known.end()) {
    rope.reject(key, fmt::format("tte knows \"{}\" for this family", fmt::join(known, "\" and \"")));
  }
}

void read_text_rope(const JsonObject& config, const TextRules& rules, TextConfig& text) {
  const JsonObject rope = rope_of(config);
  text.rope_theta = config.number("rope_theta", text.rope_theta, 0, kMostTheta);
  text.rope_theta = rope.number("rope_theta", text.rope_theta, 0, kMostTheta);
  if (rules.sections.empty()) {
    check_rope_type(rope, {"default"});
    text.rope_axes.assign(static_cast<std::size_t>(text.head_dim / 2), 0);
    return;
  }
  check_rope_type(rope, {"default", "mrope"});
  const std::vector<std::int64_t> sections = rope.integers("mrope_section", rules.sections);
  std::int64_t sum = 0;
  for (const std::int64_t section : sections) {
    if (section < 0 || section > text.head_dim)
      rope.reject("mrope_section", "a section cannot have this size");
    sum += section;
  }
  if (sections.size() != 3 || sum != text.head_dim / 2) {
    rope.reject("mrope_section", fmt::format("it must be three sizes whose sum is half of the head size, {}",
                                             text.head_dim / 2));
  }
  text.rope_axes = rules.axes(sections);
}

void read_head_dim(const JsonObject& config, const TextRules& rules, TextConfig& text) {
  if (rules.free_head_dim) {
    text.head_dim = config.integer("head_dim", rules.defaults.head_dim, 1, 4096);
  } else {
    if (text.hidden_size % text.heads != 0)
      config.reject("num_attention_heads", fmt::format("it must divide hidden_size, {}", text.hidden_size));
    text.head_dim = text.hidden_size / text.heads;
    if (config.integer("head_dim", text.head_dim, 1, kMostSize) != text.head_dim) {
      config.reject("head_dim",
                    fmt::format("this family needs hidden_size / num_attention_heads, {}", text.head_dim));
    }
  }
  if (text.head_dim % 2 != 0) {
    config.reject(rules.free_head_dim ? "head_dim" : "num_attention_heads",
                  fmt::format("heads of odd size {} cannot be rotated", text.head_dim));
  }
}

}  // namespace

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
  return {text, {16, 24, 24}, nn::contiguous_sections};
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
  rules.defaults = text;
  rules.free_head_dim = true;
  return rules;
}

JsonObject ConfigFile::text() const {
  return root().has("text_config") ? root().object("text_config") : root();
}

ConfigFile read_config_file(const base::Checkpoint& checkpoint) {
  return {base::shown(checkpoint / "config.json"), base::read_json(checkpoint / "config.json")};
}

TextConfig read_text(const ConfigFile& file, const TextRules& rules) {
  const JsonObject config = file.text();
  TextConfig text = rules.defaults;
  text.vocab_size = config.integer("vocab_size", text.vocab_size, 1, kMostSize);
  text.hidden_size = config.integer("hidden_size", text.hidden_size, 1, kMostSize);
  text.intermediate_size = config.integer("intermediate_size", text.intermediate_size, 1, kMostSize);
  text.layers = config.integer("num_hidden_layers", text.layers, 1, kMostLayers);
  text.heads = config.integer("num_attention_heads", text.heads, 1, text.hidden_size);
  text.kv_heads = config.integer("num_key_value_heads", text.kv_heads, 1, text.heads);
  text.max_positions =
      config.integer("max_position_embeddings", text.max_positions, 1, std::int64_t{1} << 40);
  text.rms_norm_eps = config.number("rms_norm_eps", text.rms_norm_eps, 0, 1);
  if (text.heads % text.kv_heads != 0) {
    config.reject("num_key_value_heads", fmt::format("it must divide num_attention_heads, {}", text.heads));
  }
  read_head_dim(config, rules, text);
  if (config.text("hidden_act", "silu") != "silu") config.reject("hidden_act", "tte knows \"silu\" here");
  if (config.flag("use_sliding_window", false)) {
    config.reject("use_sliding_window", "sliding-window attention is not supported for this family");
  }
  for (const std::string& type : config.texts("layer_types")) {
    if (type != "full_attention") config.reject("layer_types", "only \"full_attention\" is supported");
  }
  read_text_rope(config, rules, text);
  text.tied = file.root().flag("tie_word_embeddings", false) || config.flag("tie_word_embeddings", false);
  return text;
}

void read_shared(const JsonObject& config, VisionConfig& vision) {
  vision.depth = config.integer("depth", vision.depth, 1, kMostLayers);
  vision.heads = config.integer("num_heads", vision.heads, 1, kMostSize);
  vision.in_channels = config.integer("in_channels", vision.in_channels, 3, 3);
  vision.patch_size = config.integer("patch_size", vision.patch_size, 1, 1024);
  vision.merge_size = config.integer("spatial_merge_size", vision.merge_size, 1, 64);
  vision.temporal_patch_size = config.integer("temporal_patch_size", vision.temporal_patch_size, 1, 64);
  const JsonObject rope = rope_of(config);
  check_rope_type(rope, {"axial", "default"});
  vision.rope_theta = rope.number("rope_theta", vision.rope_theta, 0, kMostTheta);
}

kernels::Activation read_activation(const JsonObject& config, const std::string& fallback) {
  static const std::map<std::string, kernels::Activation> activations = {
      {"quick_gelu", kernels::Activation::kQuickGelu},
      {"gelu", kernels::Activation::kGelu},
      {"gelu_pytorch_tanh", kernels::Activation::kGeluTanh},
      {"silu", kernels::Activation::kSilu},
  };
  const auto activation = activations.find(config.text("hidden_act", fallback));
  if (activation == activations.end()) {
    config.reject("hidden_act", "tte knows quick_gelu, gelu, gelu_pytorch_tanh and silu here");
  }
  return activation->second;
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

PlaceholderTokens read_tokens(const ConfigFile& file, const TextConfig& text, const VisionConfig& vision) {
  const JsonObject root = file.root();
  const std::int64_t image = root.integer("image_token_id", 151655, 0, text.vocab_size - 1);
  const std::int64_t video = root.integer("video_token_id", 151656, 0, text.vocab_size - 1);
  if (image == video) root.reject("video_token_id", "images and videos need different placeholders");
  return {image, video, text.vocab_size, vision.merge_size};
}

PlaceholderTokens no_placeholders(const TextConfig& text) {
  return {-1, -1, text.vocab_size, 1};
}

}  // namespace tte::models::qwen
