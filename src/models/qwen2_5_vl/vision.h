// The vision tower of Qwen2.5-VL.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "models/qwen/vision_tower.h"
#include "models/qwen2_5_vl/config.h"
#include "nn/mlp.h"
#include "nn/norm.h"

namespace tte::models::qwen2_5_vl {

// How the merged tokens of frames are put so that those of a window stand together.
struct Windows {
  std::vector<std::int64_t> order;       // The merged token that comes to each place.
  std::vector<std::int32_t> cu_seqlens;  // Where each window begins, in patches, and where the last one ends.
};
// Windows of `side` x `side` merged tokens from a frame's top left corner, row by row, cut at its right and
// lower edges: transformers' get_vision_window_index.
Windows windows(std::span<const qwen::Frame> frames, std::int64_t side, std::int64_t merge);

// Patches to merged features: patch embedding, blocks whose attention sees a window or (some) a frame, merger.
class VisionTower final : public qwen::VisionTower {
 public:
  static constexpr bool kPatchBias = false;  // Whether patches are embedded with a bias.
  // `weights` is the part of the checkpoint below "visual.".
  VisionTower(const weights::StateDict& weights, const VisionConfig& config);

 private:
  [[nodiscard]] at::Tensor encode(std::span<const qwen::Frame> frames) const override;

  std::int64_t window_;
  std::vector<bool> full_;  // For each block: does it attend to whole frames?
  std::vector<qwen::VisionBlock<nn::RmsNorm, nn::GatedMlp>> blocks_;
  nn::RmsNorm merger_norm_;
  nn::Mlp merger_mlp_;
};

}  // namespace tte::models::qwen2_5_vl
