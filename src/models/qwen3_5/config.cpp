#include "models/qwen3_5/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tte::models::qwen3_5 {
namespace {

constexpr const char* kLinear = "linear_attention";
constexpr const char* kFull = "full_attention";
// What the model_type of a model with mixtures of experts begins with.
constexpr const char* kMixture = "qwen3_5_moe";

// layer_types; without it each full_attention_interval-th layer is of attention.
void read_layers(const base::JsonObject& config, TextConfig& text) {
  const std::vector<std::string> types = config.texts("layer_types");
  const std::int64_t interval = config.integer("full_attention_interval", 4, 1, kMostSize);
  if (!types.empty() && static_cast<std::int64_t>(types.size()) != text.layers) {
    config.reject("layer_types", fmt::format("it must name the types of {} layers", text.layers));
  }
  for (std::int64_t i = 0; i < text.layers; ++i) {
    if (types.empty()) {
      text.delta_layers.push_back((i + 1) % interval != 0);
      continue;
    }
    const std::string& type = types[static_cast<std::size_t>(i)];
    if (type != kLinear && type != kFull)
      config.reject("layer_types", fmt::format("tte knows \"{}\" and \"{}\" here", kLinear, kFull));
    text.delta_layers.push_back(type == kLinear);
  }
  if (std::find(text.delta_layers.begin(), text.delta_layers.end(), false) == text.delta_layers.end()) {
    config.reject(types.empty() ? "num_hidden_layers" : "layer_types",
                  fmt::format("at least one layer must be \"{}\"", kFull));
  }
}

void read_own(const base::JsonObject& config, TextConfig& text) {
  read_layers(config, text);
  nn::DeltaNetShape& delta = text.delta;
  constexpr std::int64_t kMostHeads = 1 << 16, kMostDim = 1 << 12;
  delta.hidden = text.hidden_size;
  delta.eps = text.rms_norm_eps;
  delta.conv_width = config.integer("linear_conv_kernel_dim", 4, 1, 64);
  delta.key_dim = config.integer("linear_key_head_dim", 128, 1, kMostDim);
  delta.value_dim = config.integer("linear_value_head_dim", 128, 1, kMostDim);
  delta.key_heads = config.integer("linear_num_key_heads", 16, 1, kMostHeads);
  delta.value_heads = config.integer("linear_num_value_heads", 32, 1, kMostHeads);
  if (delta.value_heads % delta.key_heads != 0) {
    config.reject("linear_num_value_heads",
                  fmt::format("it must be a multiple of linear_num_key_heads, {}", delta.key_heads));
  }
}

void read_mixture(const base::JsonObject& config, TextConfig& text) {
  read_own(config, text);
  read_experts(config, text);
  text.experts.shared_intermediate = config.integer("shared_expert_intermediate_size", 512, 1, kMostSize);
}

TextRules plain_rules() {
  TextConfig text;
  text.vocab_size = 248320;
  text.hidden_size = 4096;
  text.intermediate_size = 12288;
  text.layers = 32;
  text.heads = 16;
  text.kv_heads = 4;
  text.head_dim = 256;
  text.max_positions = 32768;
  text.qk_norm = true;
  text.gated = true;
  text.norm_scale = kernels::NormScale::kOnePlusWeight;
  TextRules rules;
  rules.defaults = std::move(text);
  rules.sections = {11, 11, 10};
  rules.interleaved = true;
  rules.partial_rotary = 0.25;
  rules.free_head_dim = true;
  rules.biases.by_attention_key = true;
  rules.read_own = read_own;
  return rules;
}

TextRules text_rules(const ConfigFile& file) {
  TextRules rules = plain_rules();
  if (!file.type().starts_with(kMixture)) return rules;
  rules.defaults.hidden_size = 2048;
  rules.defaults.layers = 40;
  rules.defaults.kv_heads = 2;
  rules.defaults.experts = {.experts = 256, .per_token = 8, .intermediate = 512};
  rules.read_own = read_mixture;
  return rules;
}

}  // namespace

Config load_config(const base::Checkpoint& checkpoint) {
  const ConfigFile file = read_config_file(checkpoint);
  return qwen::read_config(file, text_rules(file), qwen::read_grid_vision, {248056, 248057});
}

TextConfig read_text_config(const ConfigFile& file) {
  return read_text(file, text_rules(file));
}

}  // namespace tte::models::qwen3_5
