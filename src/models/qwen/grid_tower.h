// The vision tower of Qwen3-VL and Qwen3.5.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/qwen/config.h"
#include "models/qwen/vision_tower.h"
#include "nn/mlp.h"
#include "nn/norm.h"

namespace tte::models::qwen {

// Where a frame's patches lie on a square grid of learned positions: each between four of them.
struct GridTaps {
  at::Tensor index;   // int64 [4, h * w], into the rows of the grid
  at::Tensor weight;  // float32 [4, h * w]
};
// Bilinear, the corners of a frame of h x w patches on the corners of a grid of side x side, in the order of
// the patches: transformers' get_vision_interpolation_indices_and_weights, operation by operation.
GridTaps grid_taps(std::int64_t h, std::int64_t w, std::int64_t side, std::int64_t merge);

// Norm and MLP of merge x merge patches as one token; the norm is of each patch, or of the token.
class Merger {
 public:
  enum class NormOf { kPatch, kToken };
  Merger(const weights::StateDict& weights, const GridVisionConfig& config, NormOf norm_of);
  // x [patches, hidden_size] -> [merged patches, out_size]
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;

 private:
  std::int64_t width_;  // Values per token.
  NormOf norm_of_;
  nn::LayerNorm norm_;
  nn::Mlp mlp_;
};

// Patches to merged features: patch embedding, learned positions, blocks whose attention sees a whole frame,
// merger. The columns of a merged patch are those of the last block, then those of each deepstack block.
class GridTower final : public VisionTower {
 public:
  static constexpr bool kPatchBias = true;  // Whether patches are embedded with a bias.
  // `weights` is the part of the checkpoint below "visual.".
  GridTower(const weights::StateDict& weights, const GridVisionConfig& config);

 private:
  [[nodiscard]] at::Tensor encode(std::span<const Frame> frames) const override;
  // [patches, hidden_size] of frames, one after the other.
  [[nodiscard]] at::Tensor positions(std::span<const Frame> frames) const;

  at::Tensor grid_;    // [num_positions, hidden_size]
  std::int64_t side_;  // Positions per side of the grid.
  std::vector<VisionBlock<nn::LayerNorm, nn::Mlp>> blocks_;
  Merger merger_;
  std::vector<std::int64_t> deepstack_;    // Blocks, ascending,
  std::vector<Merger> deepstack_mergers_;  // and the merger of each.
};

}  // namespace tte::models::qwen
