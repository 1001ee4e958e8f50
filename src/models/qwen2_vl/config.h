// config.json of Qwen2-VL.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "kernels/kernels.h"
#include "media/patches.h"

namespace tte::models::qwen2_vl {

// Keys stand beside the fields they fill; defaults are those of transformers' Qwen2VLTextConfig. They lie in
// "text_config", or at the top level of files written before it existed.
struct TextConfig {
  std::int64_t vocab_size = 152064;        // vocab_size
  std::int64_t hidden_size = 8192;         // hidden_size
  std::int64_t intermediate_size = 29568;  // intermediate_size
  std::int64_t layers = 80;                // num_hidden_layers
  std::int64_t heads = 64;                 // num_attention_heads
  std::int64_t kv_heads = 8;               // num_key_value_heads
  std::int64_t head_dim = 128;  // hidden_size / num_attention_heads (head_dim, if there, must be the same)
  std::int64_t max_positions = 32768;  // max_position_embeddings
  double rms_norm_eps = 1e-5;          // rms_norm_eps
  // rope_scaling, else rope_parameters: {rope_type | type: "default" | "mrope", rope_theta, mrope_section};
  // rope_theta may stand outside of it.
  double rope_theta = 1e6;
  std::array<std::int64_t, 3> mrope_section = {16, 24, 24};
  // Checked only: hidden_act (must be "silu"), use_sliding_window (false), layer_types (all
  // "full_attention").
};

// "vision_config", transformers' Qwen2VLVisionConfig.
struct VisionConfig {
  std::int64_t depth = 32;          // depth
  std::int64_t embed_dim = 1280;    // embed_dim
  std::int64_t hidden_size = 3584;  // hidden_size: of the merger's output, equal to the text model's
  std::int64_t heads = 16;          // num_heads
  std::int64_t head_dim = 80;       // embed_dim / num_heads
  std::int64_t mlp_dim = 5120;      // embed_dim * mlp_ratio (4)
  kernels::Activation activation = kernels::Activation::kQuickGelu;  // hidden_act
  std::int64_t in_channels = 3;                                      // in_channels: 3 (checked)
  std::int64_t patch_size = 14;                                      // patch_size
  std::int64_t merge_size = 2;                                       // spatial_merge_size
  std::int64_t temporal_patch_size = 2;                              // temporal_patch_size
  double rope_theta = 1e4;  // rope_parameters.rope_theta (rope_type "axial" or "default")

  [[nodiscard]] std::int64_t patch_values() const {
    return in_channels * temporal_patch_size * patch_size * patch_size;
  }
  // Of one merged token, in patches.
  [[nodiscard]] std::int64_t merge_area() const { return merge_size * merge_size; }
  [[nodiscard]] media::PatchSpec patch_spec() const;  // The tower's sizes; limits are the preprocessor's.
};

struct Config {
  std::string file;  // For errors.
  TextConfig text;
  VisionConfig vision;
  std::int64_t image_token = 151655;  // image_token_id
  std::int64_t video_token = 151656;  // video_token_id
  bool tied = false;                  // tie_word_embeddings, at the top level or in text_config
};

// Reads `checkpoint`/config.json. Throws ModelError naming file, key and value for what makes no sense or is
// not supported (sliding windows, other rope types, other activations).
Config load_config(const std::filesystem::path& checkpoint);

}  // namespace tte::models::qwen2_vl
