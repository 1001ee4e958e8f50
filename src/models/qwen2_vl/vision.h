// The vision tower of Qwen2-VL.
#pragma once

#include <vector>

#include "models/qwen/vision_tower.h"
#include "nn/mlp.h"
#include "nn/norm.h"

namespace tte::models::qwen2_vl {

// Patches to merged features: patch embedding, blocks whose attention sees a whole frame, merger.
class VisionTower final : public qwen::VisionTower {
 public:
  static constexpr bool kPatchBias = false;  // Whether patches are embedded with a bias.
  // `weights` is the part of the checkpoint below "visual.".
  VisionTower(const weights::StateDict& weights, const qwen::VisionConfig& config);

 private:
  [[nodiscard]] at::Tensor encode(std::span<const qwen::Frame> frames) const override;

  std::vector<qwen::VisionBlock<nn::LayerNorm, nn::Mlp>> blocks_;
  nn::LayerNorm merger_norm_;
  nn::Mlp merger_mlp_;
};

}  // namespace tte::models::qwen2_vl
