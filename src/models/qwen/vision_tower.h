// What the vision towers of Qwen families share: patches in, merged features out, frames apart.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/assemble.h"
#include "models/prompt.h"
#include "models/qwen/config.h"
#include "nn/linear.h"
#include "nn/rope.h"
#include "weights/state_dict.h"

namespace tte::models::qwen {

// One temporal patch of a visual: what attention never leaves.
struct Frame {
  at::Tensor values;  // float32 [h * w, patch values]
  std::int64_t h = 0, w = 0;
};

class VisionTower : public VisionEncoder {
 public:
  [[nodiscard]] std::vector<at::Tensor> operator()(
      std::span<const std::shared_ptr<const Visual>> visuals) const final;

 protected:
  // Reads "patch_embed.proj" of the weights below "visual.".
  VisionTower(const weights::StateDict& weights, const VisionConfig& config);
  // Merged features of frames, one after the other.
  [[nodiscard]] virtual at::Tensor encode(std::span<const Frame> frames) const = 0;
  // [patches, hidden_size] of frames, one after the other.
  [[nodiscard]] at::Tensor embed_patches(std::span<const Frame> frames) const;
  // The angles of a frames' patches by row and column, in the order of the patches.
  [[nodiscard]] nn::RopeTable rotation(std::span<const Frame> frames) const;
  // Where each frame begins, in patches, and where the last one ends.
  [[nodiscard]] static std::vector<std::int32_t> boundaries(std::span<const Frame> frames);
  [[nodiscard]] at::Device device() const { return patch_embed_.weight().device(); }
  [[nodiscard]] const VisionConfig& config() const { return config_; }

 private:
  VisionConfig config_;
  nn::Linear patch_embed_;
  nn::Rope rope_;
};

// Row and column of each patch of a frame, int64 [2, h * w]: blocks of merge x merge patches, row by row.
at::Tensor patch_positions(std::int64_t h, std::int64_t w, std::int64_t merge);

// Attention within the sequences of packed patches: attn.qkv, attn.proj.
class VisionAttention {
 public:
  VisionAttention(const weights::StateDict& weights, const VisionConfig& config);
  // x [patches, hidden_size]; sequence i is rows cu_seqlens[i] .. cu_seqlens[i + 1].
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x, const nn::RopeTable& rope,
                                      const std::vector<std::int32_t>& cu_seqlens) const;

 private:
  std::int64_t heads_, head_dim_;
  double scale_;
  nn::Linear qkv_, proj_;
};

// Pre-norm attention and an MLP, whose kinds differ between the families.
template <typename Norm, typename Mlp>
struct VisionBlock {
  Norm norm1, norm2;
  VisionAttention attention;
  Mlp mlp;

  // x [patches, hidden_size] in place.
  void operator()(at::Tensor& x, const nn::RopeTable& rope,
                  const std::vector<std::int32_t>& cu_seqlens) const {
    x.add_(attention(norm1(x), rope, cu_seqlens));
    x.add_(mlp(norm2(x)));
  }
};

}  // namespace tte::models::qwen
