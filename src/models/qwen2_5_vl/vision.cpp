#include "models/qwen2_5_vl/vision.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>

namespace tte::models::qwen2_5_vl {
namespace {

// transformers fixes this, whatever config.json says for the text model.
constexpr nn::RmsNormOptions kNorm{.eps = 1e-6};

}  // namespace

Windows windows(std::span<const qwen::Frame> frames, std::int64_t side, std::int64_t merge) {
  Windows out;
  out.cu_seqlens = {0};
  std::int64_t first = 0;  // Merged token of the frame.
  for (const qwen::Frame& frame : frames) {
    const std::int64_t h = frame.h / merge, w = frame.w / merge;
    for (std::int64_t top = 0; top < h; top += side) {
      for (std::int64_t left = 0; left < w; left += side) {
        for (std::int64_t y = top; y < std::min(top + side, h); ++y) {
          for (std::int64_t x = left; x < std::min(left + side, w); ++x)
            out.order.push_back(first + y * w + x);
        }
        out.cu_seqlens.push_back(
            static_cast<std::int32_t>(static_cast<std::int64_t>(out.order.size()) * merge * merge));
      }
    }
    first += h * w;
  }
  return out;
}

VisionTower::VisionTower(const weights::StateDict& weights, const VisionConfig& config)
    : qwen::VisionTower(weights, config),
      window_(config.window()),
      merger_norm_(weights, "merger.ln_q", config.hidden_size, kNorm),
      merger_mlp_(weights, "merger.mlp.0", "merger.mlp.2", config.hidden_size * config.merge_area(),
                  config.hidden_size * config.merge_area(), config.out_size, kernels::Activation::kGelu) {
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const weights::StateDict block = weights.select(fmt::format("blocks.{}.", i));
    const auto norm = [&](const char* name) { return nn::RmsNorm(block, name, config.hidden_size, kNorm); };
    blocks_.push_back({norm("norm1"), norm("norm2"), qwen::VisionAttention(block, config),
                       nn::GatedMlp(block.select("mlp."), config.hidden_size, config.mlp_dim)});
    full_.push_back(std::find(config.full_blocks.begin(), config.full_blocks.end(), i) !=
                    config.full_blocks.end());
  }
}

at::Tensor VisionTower::encode(std::span<const qwen::Frame> frames) const {
  const std::int64_t area = config().merge_area();
  const Windows grouped = windows(frames, window_, config().merge_size);
  const std::vector<std::int32_t> whole = boundaries(frames);
  const at::Tensor order = at::tensor(grouped.order, at::kLong).to(device());
  // Rows of patches, a merged token's together.
  const auto put = [&](const at::Tensor& rows) {
    return rows.view({-1, area * rows.size(1)}).index_select(0, order).view({-1, rows.size(1)});
  };
  nn::RopeTable rope = rotation(frames);
  rope = {put(rope.cos), put(rope.sin)};
  at::Tensor x = put(embed_patches(frames));
  for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i](x, rope, full_[i] ? whole : grouped.cu_seqlens);
  const at::Tensor merged = merger_mlp_(merger_norm_(x).view({-1, config().hidden_size * area}));
  return at::empty_like(merged).index_copy_(0, order, merged);
}

}  // namespace tte::models::qwen2_5_vl
