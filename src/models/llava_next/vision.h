// The CLIP tower of LLaVA-NeXT, its projector, and how the features of tiles become those of an image.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/assemble.h"
#include "models/llava_next/config.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "weights/state_dict.h"

namespace tte::models::llava_next {

// A pre-norm encoder layer: layer_norm1, self_attn.*, layer_norm2, mlp.fc1, mlp.fc2.
class ClipLayer {
 public:
  ClipLayer(const weights::StateDict& weights, const VisionConfig& config);
  // x [tokens, hidden_size] in place; sequence i is rows cu_seqlens[i] .. cu_seqlens[i + 1].
  void operator()(at::Tensor& x, const std::vector<std::int32_t>& cu_seqlens) const;

 private:
  [[nodiscard]] at::Tensor attend(const at::Tensor& x, const std::vector<std::int32_t>& cu_seqlens) const;

  std::int64_t heads_, head_dim_;
  double scale_;
  nn::LayerNorm norm1_, norm2_;
  nn::Linear qkv_, out_;
  nn::Mlp mlp_;
};

class VisionTower final : public VisionEncoder {
 public:
  // Reads "tower.", "projector." and "newline".
  VisionTower(const weights::StateDict& weights, const Config& config);
  // [tokens of the image, hidden] of each: see FeatureGrid.
  [[nodiscard]] std::vector<at::Tensor> operator()(
      std::span<const std::shared_ptr<const Visual>> visuals) const override;

 private:
  // Tiles [tiles * side * side, patch values] into projected features [tiles, side * side, hidden].
  [[nodiscard]] at::Tensor encode(const at::Tensor& tiles) const;
  // The features of an image's tiles, the whole first, in the order of its tokens.
  [[nodiscard]] at::Tensor pack(const at::Tensor& tiles, Size image) const;

  VisionConfig config_;
  Tiling tiling_;
  at::Tensor class_token_, positions_;  // [hidden_size], [1 + side * side, hidden_size]
  nn::Linear patch_embed_;
  nn::LayerNorm pre_norm_;
  std::vector<ClipLayer> layers_;  // As many as features are taken from.
  nn::Mlp projector_;
  at::Tensor newline_;  // [hidden of the text]
};

}  // namespace tte::models::llava_next
