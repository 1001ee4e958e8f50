#include "models/config_file.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/file.h"
#include "nn/rope.h"

namespace tte::models {

namespace {

using base::JsonObject;

// The most that rope_scaling.original_max_position_embeddings and similar keys may say.
constexpr std::int64_t kMostPositions = std::int64_t{1} << 40;
constexpr std::int64_t kMostHeadDim = 4096;

// The scaling that rope_type "linear" and "llama3" ask for.
nn::RopeScaling read_scaling(const JsonObject& config, const JsonObject& rope, const std::string& type,
                             std::int64_t max_positions) {
  nn::RopeScaling scaling;
  if (type == "default") return scaling;
  const auto factor = [&](const char* key) {
    if (!rope.has(key)) rope.fail(key, fmt::format("is missing, which ropes of type \"{}\" need", type));
    return rope.number(key, 1, 0, kMostTheta);
  };
  scaling.factor = factor("factor");
  if (type == "linear") return scaling;
  scaling.low_freq_factor = factor("low_freq_factor");
  scaling.high_freq_factor = factor("high_freq_factor");
  if (*scaling.high_freq_factor <= *scaling.low_freq_factor) {
    rope.reject("high_freq_factor",
                fmt::format("it must be above low_freq_factor, {}", *scaling.low_freq_factor));
  }
  // transformers prefers the one that a few checkpoints keep outside of the rope's parameters.
  constexpr const char* kOriginal = "original_max_position_embeddings";
  const JsonObject& source = config.has(kOriginal) ? config : rope;
  scaling.original_positions = source.integer(kOriginal, max_positions, 1, kMostPositions);
  return scaling;
}

// How many dimensions of a head are rotated.
std::int64_t read_rotary_dim(const JsonObject& config, const JsonObject& rope, const TextRules& rules,
                             std::int64_t head_dim) {
  if (rules.partial_rotary == 1) return head_dim;
  constexpr double kAboveAll = 1 + 1e-9;
  double factor = config.number("partial_rotary_factor", rules.partial_rotary, 0, kAboveAll);
  factor = rope.number("partial_rotary_factor", factor, 0, kAboveAll);
  const auto dim = static_cast<std::int64_t>(static_cast<double>(head_dim) * factor);
  if (dim < 2 || dim % 2 != 0) {
    (rope.has("partial_rotary_factor") ? rope : config)
        .reject("partial_rotary_factor",
                fmt::format("{} of the {} dimensions of a head cannot be rotated", dim, head_dim));
  }
  return dim;
}

void read_text_rope(const JsonObject& config, const TextRules& rules, TextConfig& text) {
  const JsonObject rope = rope_of(config);
  text.rope_theta = config.number("rope_theta", text.rope_theta, 0, kMostTheta);
  text.rope_theta = rope.number("rope_theta", text.rope_theta, 0, kMostTheta);
  const std::int64_t frequencies = read_rotary_dim(config, rope, rules, text.head_dim) / 2;
  if (rules.sections.empty()) {
    text.rope_scaling =
        read_scaling(config, rope, rope_type(rope, {"default", "linear", "llama3"}), text.max_positions);
    text.rope_axes.assign(static_cast<std::size_t>(frequencies), 0);
    return;
  }
  rope_type(rope, {"default", "mrope"});
  const std::vector<std::int64_t> sections = rope.integers("mrope_section", rules.sections);
  std::int64_t sum = 0;
  for (const std::int64_t section : sections) {
    if (section < 0 || section > kMostSize) rope.reject("mrope_section", "a section cannot have this size");
    sum += section;
  }
  if (sections.size() != 3 || (!rules.interleaved && sum != frequencies)) {
    rope.reject(
        "mrope_section",
        fmt::format(
            "it must be three sizes{}",
            rules.interleaved ? "" : fmt::format(" whose sum is half of the head size, {}", frequencies)));
  }
  text.rope_axes =
      rules.interleaved ? nn::interleaved_sections(sections, frequencies) : nn::contiguous_sections(sections);
}

void read_head_dim(const JsonObject& config, const TextRules& rules, TextConfig& text) {
  const bool divides = text.hidden_size % text.heads == 0;
  std::int64_t head_dim = rules.defaults.head_dim;
  if (head_dim == 0 && (!rules.free_head_dim || !config.has("head_dim"))) {
    if (!divides)
      config.reject("num_attention_heads", fmt::format("it must divide hidden_size, {}", text.hidden_size));
    head_dim = text.hidden_size / text.heads;
  }
  text.head_dim = config.integer("head_dim", head_dim, 1, kMostHeadDim);
  if (!rules.free_head_dim && text.head_dim != head_dim) {
    config.reject("head_dim",
                  fmt::format("this family needs hidden_size / num_attention_heads, {}", head_dim));
  }
  if (text.head_dim % 2 != 0) {
    config.reject(config.has("head_dim") ? "head_dim" : "num_attention_heads",
                  fmt::format("heads of odd size {} cannot be rotated", text.head_dim));
  }
}

// A null stands for as many as there are heads, in every family.
std::int64_t read_kv_heads(const JsonObject& config, const TextConfig& text) {
  const bool as_many = text.kv_heads == 0 || config.json().contains("num_key_value_heads");
  const std::int64_t kv_heads =
      config.integer("num_key_value_heads", as_many ? text.heads : text.kv_heads, 1, text.heads);
  if (text.heads % kv_heads != 0) {
    config.reject("num_key_value_heads", fmt::format("it must divide num_attention_heads, {}", text.heads));
  }
  return kv_heads;
}

// transformers refuses or obeys these, whatever the family.
void check_unknown(const ConfigFile& file, const JsonObject& config) {
  if (const base::Json* layers = config.find("per_layer_config"); layers != nullptr && !layers->empty())
    config.fail("per_layer_config", "gives layers settings of their own, which tte does not have");
  const std::string weights = file.root().text("transformers_weights", "");
  if (!weights.empty() && !weights.starts_with("model.safetensors"))
    file.root().reject("transformers_weights",
                       "tte reads model.safetensors: rename the file, and leave the key out");
}

void check_attention(const JsonObject& config, const TextRules& rules) {
  if (config.flag("use_sliding_window", false)) {
    config.reject("use_sliding_window", "sliding-window attention is not supported for this family");
  }
  if (rules.read_own == nullptr) {
    for (const std::string& type : config.texts("layer_types")) {
      if (type != "full_attention") config.reject("layer_types", "only \"full_attention\" is supported");
    }
  }
}

// A window of so many tokens is no window for prompts that are not longer, and longer ones are not read: the mask of a
// sliding window is not supported. A null is no window, nothing the family's own.
std::int64_t positions_in_window(const JsonObject& config, const TextRules& rules, const TextConfig& text) {
  std::int64_t positions = text.max_positions;
  for (const std::string& key : rules.window_keys) {
    const bool none = config.json().contains(key) && !config.has(key);
    const std::int64_t own =
        key == "sliding_window" && rules.sliding_window != 0 ? rules.sliding_window : positions;
    if (!none) positions = std::min(positions, config.integer(key, own, 1, kMostPositions));
  }
  return positions;
}

// Whether attention is causal. transformers does not look at the root of a file whose root is no model of text.
bool read_causal(const ConfigFile& file, const JsonObject& config) {
  constexpr const char* kKey = "is_causal";
  if (file.root().has("vision_config") && !file.root().has("text_config")) return true;
  if (config.json().contains(kKey) && !config.has(kKey))
    config.fail(
        kKey, "is null, of which transformers' kinds of attention make different things: say true or false");
  return config.flag(kKey, true);
}

Biases read_biases(const JsonObject& config, Biases biases) {
  if (biases.by_attention_key) biases.qkv = biases.out = config.flag("attention_bias", false);
  if (biases.by_mlp_key) biases.mlp = config.flag("mlp_bias", false);
  return biases;
}

}  // namespace

JsonObject rope_of(const JsonObject& config) {
  return config.object(config.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
}

std::string rope_type(const JsonObject& rope, const std::vector<std::string>& known) {
  const std::string key = rope.has("rope_type") ? "rope_type" : "type";
  std::string type = rope.text(key, known.front());
  if (std::find(known.begin(), known.end(), type) == known.end()) {
    rope.reject(key, fmt::format("tte knows \"{}\" for this family", fmt::join(known, "\" and \"")));
  }
  return type;
}

JsonObject ConfigFile::text() const {
  return root().has("text_config") ? root().object("text_config") : root();
}

ConfigFile read_config_file(const base::Checkpoint& checkpoint) {
  ConfigFile file{base::shown(checkpoint / "config.json"), base::read_json(checkpoint / "config.json")};
  // ColQwen2 and its like: the model that they project the states of.
  if (file.json.is_object() && file.json.contains("vlm_config"))
    file.json = base::Json(file.json["vlm_config"]);
  return file;
}

TextConfig read_text(const ConfigFile& file, const TextRules& rules) {
  const JsonObject config = file.text();
  TextConfig text = rules.defaults;
  text.vocab_size = config.integer("vocab_size", text.vocab_size, 1, kMostSize);
  text.hidden_size = config.integer("hidden_size", text.hidden_size, 1, kMostSize);
  text.intermediate_size = config.integer("intermediate_size", text.intermediate_size, 1, kMostSize);
  text.layers = config.integer("num_hidden_layers", text.layers, 1, kMostLayers);
  text.heads = config.integer("num_attention_heads", text.heads, 1, text.hidden_size);
  text.kv_heads = read_kv_heads(config, text);
  text.max_positions = config.integer("max_position_embeddings", text.max_positions, 1, kMostPositions);
  text.rms_norm_eps = config.number("rms_norm_eps", text.rms_norm_eps, 0, 1);
  read_head_dim(config, rules, text);
  if (config.text("hidden_act", "silu") != "silu") config.reject("hidden_act", "tte knows \"silu\" here");
  check_unknown(file, config);
  check_attention(config, rules);
  text.causal = read_causal(file, config);
  text.biases = read_biases(config, rules.biases);
  read_text_rope(config, rules, text);
  text.max_positions = positions_in_window(config, rules, text);
  if (rules.read_own != nullptr) rules.read_own(config, text);
  text.tied = file.root().flag("tie_word_embeddings", false) || config.flag("tie_word_embeddings", false);
  return text;
}

void read_experts(const JsonObject& config, TextConfig& text) {
  constexpr std::int64_t kMostExperts = 1 << 14;
  nn::ExpertsShape& shape = text.experts;
  const char* count = config.has("num_local_experts") ? "num_local_experts" : "num_experts";
  shape.hidden = text.hidden_size;
  shape.experts = config.integer(count, shape.experts, 1, kMostExperts);
  shape.per_token = config.integer("num_experts_per_tok", shape.per_token, 1, kMostExperts);
  if (shape.per_token > shape.experts)
    config.reject("num_experts_per_tok", fmt::format("there are {} experts only", shape.experts));
  shape.intermediate = config.integer("moe_intermediate_size", shape.intermediate, 1, kMostSize);
  text.expert_layers.assign(static_cast<std::size_t>(text.layers), true);
}

kernels::Activation read_activation(const JsonObject& config, const std::string& key,
                                    const std::string& fallback) {
  static const std::map<std::string, kernels::Activation> activations = {
      {"quick_gelu", kernels::Activation::kQuickGelu},
      {"gelu", kernels::Activation::kGelu},
      {"gelu_pytorch_tanh", kernels::Activation::kGeluTanh},
      {"silu", kernels::Activation::kSilu},
  };
  const auto activation = activations.find(config.text(key, fallback));
  if (activation == activations.end()) {
    config.reject(key, "tte knows quick_gelu, gelu, gelu_pytorch_tanh and silu here");
  }
  return activation->second;
}

}  // namespace tte::models
