// What the config.json of all families have in common: first of all their decoder, as language_model.h has it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/json.h"
#include "kernels/kernels.h"
#include "models/language_model.h"

namespace tte::models {

// Far past every model there is, and small enough that no product of two overflows.
inline constexpr std::int64_t kMostSize = std::int64_t{1} << 24;
inline constexpr std::int64_t kMostLayers = 1024;
inline constexpr double kMostTheta = 1e12;

// A config.json, or what it has in "vlm_config".
struct ConfigFile {
  std::string name;  // For errors.
  base::Json json;

  [[nodiscard]] base::JsonObject root() const { return {json, name}; }
  [[nodiscard]] std::string type() const { return root().text("model_type", ""); }
  // "text_config", or the top level of files written before it existed.
  [[nodiscard]] base::JsonObject text() const;
  [[nodiscard]] base::JsonObject vision() const { return root().object("vision_config"); }
};
ConfigFile read_config_file(const base::Checkpoint& checkpoint);

// What a family's text model may differ in.
struct TextRules {
  TextConfig defaults;  // kv_heads and head_dim 0: the number of heads, and hidden_size divided by it.
  std::vector<std::int64_t> sections;  // The default of mrope_section; empty: positions have one axis.
  bool interleaved = false;            // Sections are spread over the frequencies (nn::interleaved_sections).
  double partial_rotary = 1;   // The default of partial_rotary_factor, which is read where this is not 1.
  bool free_head_dim = false;  // head_dim need not be hidden_size / num_attention_heads.
  std::int64_t sliding_window = 0;  // The default of sliding_window; 0: none.
  // Keys of a number of tokens that layers see back to, of the model or of transformers' cache for it.
  std::vector<std::string> window_keys;
  Biases biases;  // Those that no key decides.
  // Reads what no other family has, layer_types too; null: there is nothing, and all layers are of attention.
  void (*read_own)(const base::JsonObject& config, TextConfig& text) = nullptr;
};

// Throws ModelError naming file, key and value for what makes no sense or is not supported (sliding windows,
// other rope types, other activations).
TextConfig read_text(const ConfigFile& file, const TextRules& rules);

// The sizes of a mixture of experts: num_experts (or num_local_experts), num_experts_per_tok, moe_intermediate_size,
// with the defaults that `text.experts` has, and text's hidden_size. All layers have it, unless the caller says
// otherwise.
void read_experts(const base::JsonObject& config, TextConfig& text);

// The rope parameters of `config`, whichever of their two names they have.
base::JsonObject rope_of(const base::JsonObject& config);
// The type of rope that they name, "default" where they name none. Throws ModelError unless it is one of `known`.
std::string rope_type(const base::JsonObject& rope, const std::vector<std::string>& known);
// The activation at `key`. Throws ModelError for one that is not known.
kernels::Activation read_activation(const base::JsonObject& config, const std::string& key,
                                    const std::string& fallback);

}  // namespace tte::models
