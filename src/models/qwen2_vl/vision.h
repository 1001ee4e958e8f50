// The vision tower of Qwen2-VL.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/model.h"
#include "models/qwen2_vl/config.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "nn/rope.h"
#include "weights/state_dict.h"

namespace tte::models::qwen2_vl {

// Pre-norm attention within each temporal patch of an image or video, and an MLP.
class VisionBlock {
 public:
  VisionBlock(const weights::StateDict& weights, const VisionConfig& config);
  // x [patches, embed_dim] in place; sequence i is rows cu_seqlens[i] .. cu_seqlens[i + 1].
  void operator()(at::Tensor& x, const nn::RopeTable& rope,
                  const std::vector<std::int32_t>& cu_seqlens) const;

 private:
  [[nodiscard]] at::Tensor attend(const at::Tensor& x, const nn::RopeTable& rope,
                                  const std::vector<std::int32_t>& cu_seqlens) const;
  std::int64_t heads_, head_dim_;
  double scale_;
  nn::LayerNorm norm1_, norm2_;
  nn::Linear qkv_, proj_;
  nn::Mlp mlp_;
};

// Patches to merged features: patch embedding, blocks, merger.
class VisionTower {
 public:
  // `weights` is the part of the checkpoint below "visual.".
  VisionTower(const weights::StateDict& weights, const VisionConfig& config);

  // [merged patches, hidden_size] of each visual, in the weights' type on their device.
  [[nodiscard]] std::vector<at::Tensor> operator()(
      std::span<const std::shared_ptr<const Visual>> visuals) const;

 private:
  // One temporal patch of a visual: the unit of attention.
  struct Frame {
    at::Tensor values;  // float32 [h * w, patch values]
    std::int64_t h = 0, w = 0;
  };
  // Merged features of frames, one after the other.
  [[nodiscard]] at::Tensor encode(std::span<const Frame> frames) const;

  VisionConfig config_;
  nn::Linear patch_embed_;
  nn::Rope rope_;
  std::vector<VisionBlock> blocks_;
  nn::LayerNorm merger_norm_;
  nn::Mlp merger_mlp_;
};

}  // namespace tte::models::qwen2_vl
