#include "models/qwen2_vl/vision.h"

#include <fmt/core.h>

namespace tte::models::qwen2_vl {
namespace {

// transformers fixes this, whatever config.json says for the text model.
constexpr double kNormEps = 1e-6;

}  // namespace

VisionTower::VisionTower(const weights::StateDict& weights, const qwen::VisionConfig& config)
    : qwen::VisionTower(weights, config),
      merger_norm_(weights, "merger.ln_q", config.hidden_size, kNormEps),
      merger_mlp_(weights, "merger.mlp.0", "merger.mlp.2", config.hidden_size * config.merge_area(),
                  config.hidden_size * config.merge_area(), config.out_size, kernels::Activation::kGelu) {
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const weights::StateDict block = weights.select(fmt::format("blocks.{}.", i));
    const auto norm = [&](const char* name) {
      return nn::LayerNorm(block, name, config.hidden_size, kNormEps);
    };
    blocks_.push_back({norm("norm1"), norm("norm2"), qwen::VisionAttention(block, config),
                       nn::Mlp(block, "mlp.fc1", "mlp.fc2", config.hidden_size, config.mlp_dim,
                               config.hidden_size, config.activation)});
  }
}

at::Tensor VisionTower::encode(std::span<const qwen::Frame> frames) const {
  const nn::RopeTable rope = rotation(frames);
  const std::vector<std::int32_t> cu_seqlens = boundaries(frames);
  at::Tensor x = embed_patches(frames);
  for (const auto& block : blocks_) block(x, rope, cu_seqlens);
  return merger_mlp_(merger_norm_(x).view({-1, config().hidden_size * config().merge_area()}));
}

}  // namespace tte::models::qwen2_vl
