#include "models/llava_next/vision.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/kernels.h"
#include "models/step_size.h"
#include "tte/error.h"

namespace tte::models::llava_next {
namespace {

// The convolution over whole, disjoint patches is a linear over flattened ones: [hidden_size, patch values].
at::Tensor patch_weight(const weights::StateDict& tower, const VisionConfig& config) {
  return tower
      .get("embeddings.patch_embedding.weight", {config.hidden_size, 3, config.patch_size, config.patch_size})
      .view({config.hidden_size, config.patch_values()});
}

std::int64_t last_layer(const VisionConfig& config) {
  return *std::max_element(config.feature_layers.begin(), config.feature_layers.end());
}

// What a CLIP checkpoint has, but no feature that is taken needs.
void mark_unused(const weights::StateDict& tower, const VisionConfig& config) {
  tower.mark_used("embeddings.position_ids");
  for (const std::string& name : tower.select("post_layernorm.").names())
    tower.mark_used("post_layernorm." + name);
  for (std::int64_t i = last_layer(config); i < config.depth; ++i) {
    const std::string layer = fmt::format("encoder.layers.{}.", i);
    for (const std::string& name : tower.select(layer).names()) tower.mark_used(layer + name);
  }
}

}  // namespace

ClipLayer::ClipLayer(const weights::StateDict& weights, const VisionConfig& config)
    : heads_(config.heads),
      head_dim_(config.head_dim),
      scale_(1.0 / std::sqrt(static_cast<double>(config.head_dim))),
      norm1_(weights, "layer_norm1", config.hidden_size, config.norm_eps),
      norm2_(weights, "layer_norm2", config.hidden_size, config.norm_eps),
      qkv_(nn::Linear::stacked(weights, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                               config.hidden_size,
                               {config.hidden_size, config.hidden_size, config.hidden_size})),
      out_(weights, "self_attn.out_proj", config.hidden_size, config.hidden_size),
      mlp_(weights, "mlp.fc1", "mlp.fc2", config.hidden_size, config.mlp_dim, config.hidden_size,
           config.activation) {}

at::Tensor ClipLayer::attend(const at::Tensor& x, const std::vector<std::int32_t>& cu_seqlens) const {
  const at::Tensor qkv = qkv_(x).view({x.size(0), 3 * heads_, head_dim_});
  return out_(kernels::attention(qkv.narrow(1, 0, heads_), qkv.narrow(1, heads_, heads_),
                                 qkv.narrow(1, 2 * heads_, heads_), cu_seqlens, /*causal=*/false, scale_));
}

void ClipLayer::operator()(at::Tensor& x, const std::vector<std::int32_t>& cu_seqlens) const {
  x.add_(attend(norm1_(x), cu_seqlens));
  x.add_(mlp_(norm2_(x)));
}

VisionTower::VisionTower(const weights::StateDict& weights, const Config& config)
    : config_(config.vision),
      tiling_(config.tiling),
      class_token_(weights.get("tower.embeddings.class_embedding", {config_.hidden_size})),
      positions_(weights.get("tower.embeddings.position_embedding.weight",
                             {1 + tiling_.side * tiling_.side, config_.hidden_size})),
      patch_embed_(patch_weight(weights.select("tower."), config_)),
      pre_norm_(weights, "tower.pre_layrnorm", config_.hidden_size, config_.norm_eps),
      projector_(weights, "projector.linear_1", "projector.linear_2",
                 config_.hidden_size * static_cast<std::int64_t>(config_.feature_layers.size()),
                 config.text.hidden_size, config.text.hidden_size, config_.projector_activation),
      newline_(weights.get("newline", {config.text.hidden_size})) {
  const weights::StateDict tower = weights.select("tower.");
  for (std::int64_t i = 0; i < last_layer(config_); ++i)
    layers_.emplace_back(tower.select(fmt::format("encoder.layers.{}.", i)), config_);
  mark_unused(tower, config_);
}

at::Tensor VisionTower::encode(const at::Tensor& tiles) const {
  const std::int64_t patches = tiling_.side * tiling_.side, count = tiles.size(0) / patches;
  const at::Tensor embedded = patch_embed_(tiles.to(class_token_.device(), class_token_.scalar_type()));
  at::Tensor x = at::cat({class_token_.expand({count, 1, -1}), embedded.view({count, patches, -1})}, 1);
  x = pre_norm_((x + positions_).view({count * (1 + patches), -1}));
  std::vector<std::int32_t> cu_seqlens;
  for (std::int64_t i = 0; i <= count; ++i)
    cu_seqlens.push_back(static_cast<std::int32_t>(i * (1 + patches)));
  // The states that features are taken from, by the layer.
  std::vector<at::Tensor> taken(config_.feature_layers.size());
  const auto take = [&](std::int64_t layer) {
    for (std::size_t i = 0; i < taken.size(); ++i) {
      if (config_.feature_layers[i] == layer) taken[i] = x.view({count, 1 + patches, -1}).slice(1, 1).clone();
    }
  };
  take(0);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i](x, cu_seqlens);
    take(static_cast<std::int64_t>(i) + 1);
  }
  const at::Tensor features = at::cat(taken, 2).view({count * patches, -1});
  return projector_(features).view({count, patches, -1});
}

at::Tensor VisionTower::pack(const at::Tensor& tiles, Size image) const {
  const FeatureGrid grid = feature_grid(image, tiling_);
  const std::int64_t side = tiling_.side, hidden = tiles.size(2);
  const at::Tensor whole = tiles[0];
  const at::Tensor map = tiles.slice(0, 1)
                             .view({grid.rows, grid.columns, side, side, hidden})
                             .transpose(1, 2)
                             .reshape({grid.rows * side, grid.columns * side, hidden})
                             .narrow(0, grid.top, grid.height)
                             .narrow(1, grid.left, grid.width);
  const at::Tensor lines = at::cat({map, newline_.expand({grid.height, 1, hidden})}, 1);
  return at::cat({whole, lines.reshape({grid.height * (grid.width + 1), hidden})});
}

std::vector<at::Tensor> VisionTower::operator()(
    std::span<const std::shared_ptr<const Visual>> visuals) const {
  const std::int64_t patches = tiling_.side * tiling_.side;
  const std::int64_t most =
      std::max<std::int64_t>(1, step_size(class_token_.device().type()).patches / patches);
  std::vector<at::Tensor> out;
  for (const auto& visual : visuals) {
    const at::Tensor& values = visual->patches.values;
    const FeatureGrid grid = feature_grid(visual->original, tiling_);
    const std::int64_t tiles = 1 + grid.rows * grid.columns;
    if (values.dim() != 2 || values.size(0) != tiles * patches || values.size(1) != config_.patch_values()) {
      throw InputError(fmt::format("Patches of shape {} do not fit {} tiles of {} patches of {} values.",
                                   fmt::join(values.sizes(), " x "), tiles, patches, config_.patch_values()));
    }
    // Tiles never see each other, so that the grouping changes no result.
    std::vector<at::Tensor> features;
    for (std::int64_t tile = 0; tile < tiles; tile += most)
      features.push_back(encode(values.slice(0, tile * patches, std::min(tile + most, tiles) * patches)));
    out.push_back(pack(at::cat(features), visual->original));
  }
  return out;
}

}  // namespace tte::models::llava_next
