#include "models/qwen/vision_tower.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cmath>
#include <optional>

#include "kernels/kernels.h"
#include "kernels/tensors.h"
#include "models/step_size.h"
#include "tte/error.h"

namespace tte::models::qwen {
namespace {

// The Conv3d over whole, disjoint patches is a linear over flattened patches: [embed_dim, patch values].
at::Tensor patch_weight(const weights::StateDict& weights, const VisionConfig& config) {
  return weights
      .get("patch_embed.proj.weight", {config.hidden_size, config.in_channels, config.temporal_patch_size,
                                       config.patch_size, config.patch_size})
      .view({config.hidden_size, config.patch_values()});
}

}  // namespace

at::Tensor patch_positions(std::int64_t h, std::int64_t w, std::int64_t merge) {
  const auto in_blocks = [&](const at::Tensor& grid) {
    return grid.expand({h, w}).reshape({h / merge, merge, w / merge, merge}).transpose(1, 2).reshape({-1});
  };
  return at::stack({in_blocks(at::arange(h, at::kLong).unsqueeze(1)), in_blocks(at::arange(w, at::kLong))});
}

VisionTower::VisionTower(const weights::StateDict& weights, const VisionConfig& config)
    : config_(config),
      patch_embed_(patch_weight(weights, config),
                   weights.find("patch_embed.proj.bias", {config.hidden_size})),
      rope_(nn::Rope::vision(config.head_dim, config.rope_theta, device())) {}

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
  const std::int64_t most = step_size(device().type()).patches;
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

at::Tensor VisionTower::embed_patches(std::span<const Frame> frames) const {
  std::vector<at::Tensor> values;
  for (const Frame& frame : frames) values.push_back(frame.values);
  return patch_embed_(at::cat(values).to(device(), patch_embed_.weight().dtype()));
}

nn::RopeTable VisionTower::rotation(std::span<const Frame> frames) const {
  std::vector<at::Tensor> positions;
  for (const Frame& frame : frames)
    positions.push_back(patch_positions(frame.h, frame.w, config_.merge_size));
  return rope_.table(kernels::upload(at::cat(positions, 1), device()), at::kFloat);
}

std::vector<std::int32_t> VisionTower::boundaries(std::span<const Frame> frames) {
  std::vector<std::int32_t> out = {0};
  for (const Frame& frame : frames) out.push_back(out.back() + static_cast<std::int32_t>(frame.h * frame.w));
  return out;
}

VisionAttention::VisionAttention(const weights::StateDict& weights, const VisionConfig& config)
    : heads_(config.heads),
      head_dim_(config.head_dim),
      scale_(1.0 / std::sqrt(static_cast<double>(config.head_dim))),
      qkv_(weights, "attn.qkv", config.hidden_size, 3 * config.hidden_size),
      proj_(weights, "attn.proj", config.hidden_size, config.hidden_size) {}

at::Tensor VisionAttention::operator()(const at::Tensor& x, const nn::RopeTable& rope,
                                       const std::vector<std::int32_t>& cu_seqlens) const {
  const at::Tensor qkv = qkv_(x).view({x.size(0), 3 * heads_, head_dim_});
  at::Tensor rotated = qkv.narrow(1, 0, 2 * heads_);  // Queries and keys, in one call.
  kernels::rope_(rotated, rope.cos, rope.sin);
  return proj_(kernels::attention(qkv.narrow(1, 0, heads_), qkv.narrow(1, heads_, heads_),
                                  qkv.narrow(1, 2 * heads_, heads_), cu_seqlens, /*causal=*/false, scale_));
}

}  // namespace tte::models::qwen
