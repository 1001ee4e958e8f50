// What the config.json of Qwen vision-language families have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "kernels/kernels.h"
#include "media/patches.h"
#include "models/config_file.h"
#include "models/language_model.h"
#include "models/qwen/placeholders.h"

namespace tte::models::qwen {

// "vision_config"; the names of some sizes differ between the families.
struct VisionConfig {
  std::int64_t depth = 32;          // depth
  std::int64_t hidden_size = 1280;  // embed_dim (Qwen2-VL), else hidden_size
  std::int64_t out_size = 3584;     // hidden_size (Qwen2-VL), else out_hidden_size: equal to the text model's
  std::int64_t heads = 16;          // num_heads
  std::int64_t head_dim = 80;       // hidden_size / num_heads
  std::int64_t mlp_dim = 5120;      // hidden_size * mlp_ratio (Qwen2-VL), else intermediate_size
  kernels::Activation activation = kernels::Activation::kQuickGelu;  // hidden_act
  std::int64_t in_channels = 3;                                      // in_channels: 3 (checked)
  std::int64_t patch_size = 14;                                      // patch_size
  std::int64_t merge_size = 2;                                       // spatial_merge_size
  std::int64_t temporal_patch_size = 2;                              // temporal_patch_size
  double rope_theta = 1e4;  // rope_parameters.rope_theta (rope_type "axial" or "default")

  [[nodiscard]] std::int64_t patch_values() const {
    return in_channels * temporal_patch_size * patch_size * patch_size;
  }
  // How many patches make one merged token.
  [[nodiscard]] std::int64_t merge_area() const { return merge_size * merge_size; }
  [[nodiscard]] media::PatchSpec patch_spec() const;  // The tower's sizes.
  // Adds every setting that decides what the tower computes.
  void add_to(base::Digester& digester) const;
};

// The config of a tower whose patches also have learned positions (GridTower).
struct GridVisionConfig : VisionConfig {
  std::int64_t num_positions = 2304;  // num_position_embeddings: learned positions, a square grid
  // deepstack_visual_indexes (Qwen3-VL): blocks whose output is merged too, ascending
  std::vector<std::int64_t> deepstack;

  // As the base's, with what such a tower adds.
  void add_to(base::Digester& digester) const;
};

// The rules of Qwen2-VL and Qwen2.5-VL.
TextRules qwen2_rules();
// What Qwen3's and Qwen3-VL's text models have in common.
TextRules qwen3_rules();
// What their mixtures of experts say. Layers of a plain MLP are those of mlp_only_layers, and all but each
// decoder_sparse_step-th.
void read_qwen3_mixture(const base::JsonObject& config, TextConfig& text);

// All throw ModelError naming file, key and value for what makes no sense or is not supported (other rope types,
// other activations).
// The keys whose names the families share; the others keep what `vision` says.
void read_shared(const base::JsonObject& config, VisionConfig& vision);
// Once all sizes are read: sets head_dim; `keys` are the family's names of hidden_size and out_size.
struct VisionKeys {
  const char* hidden_size;
  const char* out_size;
};
void finish(const base::JsonObject& config, const VisionKeys& keys, const TextConfig& text,
            VisionConfig& vision);
// The config of a GridTower, but for deepstack_visual_indexes.
GridVisionConfig read_grid_vision(const base::JsonObject& config, const TextConfig& text);
// Defaults of image_token_id and video_token_id.
struct TokenIds {
  std::int64_t image = 151655, video = 151656;
};
PlaceholderTokens read_tokens(const ConfigFile& file, const TextConfig& text, const VisionConfig& vision,
                              const TokenIds& defaults);

// A vision-language family's config.json; `Vision` is its VisionConfig.
template <typename Vision>
struct Config {
  std::string family, file;  // model_type, and the file's name for errors.
  TextConfig text;
  Vision vision;
  PlaceholderTokens tokens;
};

template <typename Vision>
Config<Vision> read_config(const ConfigFile& file, const TextRules& rules,
                           Vision (*read_vision)(const base::JsonObject& config, const TextConfig& text),
                           const TokenIds& tokens = {}) {
  const TextConfig text = read_text(file, rules);
  const Vision vision = read_vision(file.vision(), text);
  return {file.type(), file.name, text, vision, read_tokens(file, text, vision, tokens)};
}

}  // namespace tte::models::qwen
