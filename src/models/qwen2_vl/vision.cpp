#include "models/qwen2_vl/vision.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cmath>
#include <utility>

#include "kernels/kernels.h"
#include "models/step_size.h"
#include "tte/error.h"

namespace tte::models::qwen2_vl {
namespace {

// transformers fixes this, whatever config.json says for the text model.
constexpr double kNormEps = 1e-6;

// The Conv3d over whole, disjoint patches is a linear over flattened patches: [embed_dim, patch values].
at::Tensor patch_weight(const weights::StateDict& weights, const VisionConfig& config) {
  return weights
      .get("patch_embed.proj.weight", {config.embed_dim, config.in_channels, config.temporal_patch_size,
                                       config.patch_size, config.patch_size})
      .view({config.embed_dim, config.patch_values()});
}

// Row and column of each patch of a frame, int64 [2, h * w]: blocks of merge x merge patches, row by row.
at::Tensor patch_positions(std::int64_t h, std::int64_t w, std::int64_t merge) {
  const auto in_blocks = [&](const at::Tensor& grid) {
    return grid.expand({h, w}).reshape({h / merge, merge, w / merge, merge}).transpose(1, 2).reshape({-1});
  };
  return at::stack({in_blocks(at::arange(h, at::kLong).unsqueeze(1)), in_blocks(at::arange(w, at::kLong))});
}

}  // namespace

VisionBlock::VisionBlock(const weights::StateDict& weights, const VisionConfig& config)
    : heads_(config.heads),
      head_dim_(config.head_dim),
      scale_(1.0 / std::sqrt(static_cast<double>(config.head_dim))),
      norm1_(weights, "norm1", config.embed_dim, kNormEps),
      norm2_(weights, "norm2", config.embed_dim, kNormEps),
      qkv_(weights, "attn.qkv", config.embed_dim, 3 * config.embed_dim),
      proj_(weights, "attn.proj", config.embed_dim, config.embed_dim),
      mlp_(weights, "mlp.fc1", "mlp.fc2", config.embed_dim, config.mlp_dim, config.embed_dim,
           config.activation) {}

at::Tensor VisionBlock::attend(const at::Tensor& x, const nn::RopeTable& rope,
                               const std::vector<std::int32_t>& cu_seqlens) const {
  const at::Tensor qkv = qkv_(x).view({x.size(0), 3 * heads_, head_dim_});
  at::Tensor rotated = qkv.narrow(1, 0, 2 * heads_);  // Queries and keys, in one call.
  kernels::rope_(rotated, rope.cos, rope.sin);
  return proj_(kernels::attention(qkv.narrow(1, 0, heads_), qkv.narrow(1, heads_, heads_),
                                  qkv.narrow(1, 2 * heads_, heads_), cu_seqlens, /*causal=*/false, scale_));
}

void VisionBlock::operator()(at::Tensor& x, const nn::RopeTable& rope,
                             const std::vector<std::int32_t>& cu_seqlens) const {
  x.add_(attend(norm1_(x), rope, cu_seqlens));
  x.add_(mlp_(norm2_(x)));
}

VisionTower::VisionTower(const weights::StateDict& weights, const VisionConfig& config)
    : config_(config),
      patch_embed_(patch_weight(weights, config)),
      rope_(nn::Rope::vision(config.head_dim, config.rope_theta)),
      merger_norm_(weights, "merger.ln_q", config.embed_dim, kNormEps),
      merger_mlp_(weights, "merger.mlp.0", "merger.mlp.2", config.embed_dim * config.merge_area(),
                  config.embed_dim * config.merge_area(), config.hidden_size, kernels::Activation::kGelu) {
  for (std::int64_t i = 0; i < config.depth; ++i) {
    blocks_.emplace_back(weights.select(fmt::format("blocks.{}.", i)), config);
  }
}

std::vector<at::Tensor> VisionTower::operator()(
    std::span<const std::shared_ptr<const Visual>> visuals) const {
  std::vector<Frame> frames;
  std::vector<std::int64_t> merged;  // Tokens of each visual.
  for (const auto& visual : visuals) {
    const media::Patches& patches = visual->patches;
    const std::int64_t area = patches.h * patches.w;
    if (patches.values.dim() != 2 || patches.values.size(0) != patches.t * area ||
        patches.values.size(1) != config_.patch_values() || patches.h % config_.merge_size != 0 ||
        patches.w % config_.merge_size != 0) {
      throw InputError(fmt::format(
          "Patches of shape {} do not fit a grid of {} x {} x {} patches of {} values.",
          fmt::join(patches.values.sizes(), " x "), patches.t, patches.h, patches.w, config_.patch_values()));
    }
    for (std::int64_t t = 0; t < patches.t; ++t) {
      frames.push_back({patches.values.narrow(0, t * area, area), patches.h, patches.w});
    }
    merged.push_back(patches.t * area / config_.merge_area());
  }
  if (frames.empty()) return {};

  std::vector<at::Tensor> features;
  // Frames never see each other, so that the grouping changes no result.
  const std::int64_t most = step_size(patch_embed_.weight().device().type()).patches;
  std::size_t begin = 0;
  std::int64_t patches = 0;
  for (std::size_t end = 0; end < frames.size(); ++end) {
    const std::int64_t next = frames[end].h * frames[end].w;
    if (end > begin && patches + next > most) {
      features.push_back(encode({frames.data() + begin, end - begin}));
      begin = end;
      patches = 0;
    }
    patches += next;
  }
  features.push_back(encode({frames.data() + begin, frames.size() - begin}));
  // Copies, not views: a feature that is kept must not keep the others of its pass.
  std::vector<at::Tensor> split;
  for (const at::Tensor& part : at::cat(features).split_with_sizes(merged)) split.push_back(part.clone());
  return split;
}

at::Tensor VisionTower::encode(std::span<const Frame> frames) const {
  std::vector<at::Tensor> values, positions;
  std::vector<std::int32_t> cu_seqlens = {0};
  for (const Frame& frame : frames) {
    values.push_back(frame.values);
    positions.push_back(patch_positions(frame.h, frame.w, config_.merge_size));
    cu_seqlens.push_back(cu_seqlens.back() + static_cast<std::int32_t>(frame.h * frame.w));
  }
  const kernels::Weight& weight = patch_embed_.weight();
  const nn::RopeTable rope = rope_.table(at::cat(positions, 1), weight.device(), at::kFloat);
  at::Tensor x = patch_embed_(at::cat(values).to(weight.device(), weight.dtype()));
  for (const VisionBlock& block : blocks_) block(x, rope, cu_seqlens);
  return merger_mlp_(merger_norm_(x).view({-1, config_.embed_dim * config_.merge_area()}));
}

}  // namespace tte::models::qwen2_vl
