// config.json of LLaVA-NeXT.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/digest.h"
#include "kernels/kernels.h"
#include "models/config_file.h"
#include "models/llava_next/tiles.h"

namespace tte::models::llava_next {

// "vision_config", a CLIP tower's, and what the top level says of how it is read.
struct VisionConfig {
  std::int64_t depth = 24;          // num_hidden_layers
  std::int64_t hidden_size = 1024;  // hidden_size
  std::int64_t heads = 16;          // num_attention_heads
  std::int64_t head_dim = 64;       // hidden_size / num_attention_heads
  std::int64_t mlp_dim = 4096;      // intermediate_size
  std::int64_t image_size = 336;    // image_size: the side of a tile, in pixels
  std::int64_t patch_size = 14;     // patch_size
  double norm_eps = 1e-5;           // layer_norm_eps
  kernels::Activation activation = kernels::Activation::kQuickGelu;  // hidden_act
  // projector_hidden_act, of the top level
  kernels::Activation projector_activation = kernels::Activation::kGelu;
  // vision_feature_layer, of the top level: after how many layers of the tower features are taken; of several, they
  // stand side by side.
  std::vector<std::int64_t> feature_layers;

  // Patches along a side of a tile.
  [[nodiscard]] std::int64_t side() const { return image_size / patch_size; }
  [[nodiscard]] std::int64_t patch_values() const { return 3 * patch_size * patch_size; }
  // Adds every setting that decides what the tower computes.
  void add_to(base::Digester& digester) const;
};

struct Config {
  std::string file;  // For errors.
  TextConfig text;   // "text_config": Llama's or Mistral's
  VisionConfig vision;
  Tiling tiling;                 // image_grid_pinpoints, and the sizes of the tower
  std::int64_t image_token = 0;  // image_token_index, or image_token_id
  bool projector_bias = true;    // multimodal_projector_bias
};

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (LlavaNextConfig, CLIPVisionConfig). Throws
// ModelError naming file, key and value for what makes no sense or is not supported.
Config load_config(const base::Checkpoint& checkpoint);

}  // namespace tte::models::llava_next
