#include "models/qwen/grid_tower.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace tte::models::qwen {
namespace {

// transformers fixes this, whatever config.json says for the text model.
constexpr double kNormEps = 1e-6;

// Two neighbours on an axis of the grid, and how much each counts.
struct AxisTaps {
  std::array<std::int64_t, 2> index;
  std::array<float, 2> weight;
};

AxisTaps axis_taps(std::int64_t at, std::int64_t size, std::int64_t side) {
  const float place = static_cast<float>(at) * static_cast<float>(side - 1) /
                      static_cast<float>(std::max<std::int64_t>(size - 1, 1));
  const float floor = std::floor(place);
  AxisTaps taps{};
  for (std::size_t i = 0; i < 2; ++i) {
    const auto offset = static_cast<float>(i);
    taps.index[i] = std::clamp<std::int64_t>(static_cast<std::int64_t>(floor + offset), 0, side - 1);
    taps.weight[i] = std::max(1.0F - std::abs(place - floor - offset), 0.0F);
  }
  return taps;
}

}  // namespace

GridTaps grid_taps(std::int64_t h, std::int64_t w, std::int64_t side, std::int64_t merge) {
  std::vector<AxisTaps> rows, columns;
  for (std::int64_t y = 0; y < h; ++y) rows.push_back(axis_taps(y, h, side));
  for (std::int64_t x = 0; x < w; ++x) columns.push_back(axis_taps(x, w, side));
  const at::Tensor patches = patch_positions(h, w, merge);
  const auto at_patch = patches.accessor<std::int64_t, 2>();
  GridTaps out{at::empty({4, h * w}, at::kLong), at::empty({4, h * w}, at::kFloat)};
  auto index = out.index.accessor<std::int64_t, 2>();
  auto weight = out.weight.accessor<float, 2>();
  for (std::int64_t i = 0; i < h * w; ++i) {
    const AxisTaps& row = rows[static_cast<std::size_t>(at_patch[0][i])];
    const AxisTaps& column = columns[static_cast<std::size_t>(at_patch[1][i])];
    for (std::int64_t tap = 0; tap < 4; ++tap) {
      const auto y = static_cast<std::size_t>(tap / 2), x = static_cast<std::size_t>(tap % 2);
      index[tap][i] = row.index[y] * side + column.index[x];
      weight[tap][i] = row.weight[y] * column.weight[x];
    }
  }
  return out;
}

Merger::Merger(const weights::StateDict& weights, const GridVisionConfig& config, NormOf norm_of)
    : width_(config.hidden_size * config.merge_area()),
      norm_of_(norm_of),
      norm_(weights, "norm", norm_of == NormOf::kToken ? width_ : config.hidden_size, kNormEps),
      mlp_(weights, "linear_fc1", "linear_fc2", width_, width_, config.out_size, kernels::Activation::kGelu) {
}

at::Tensor Merger::operator()(const at::Tensor& x) const {
  return mlp_(norm_of_ == NormOf::kToken ? norm_(x.view({-1, width_})) : norm_(x).view({-1, width_}));
}

GridTower::GridTower(const weights::StateDict& weights, const GridVisionConfig& config)
    : VisionTower(weights, config),
      grid_(weights.get("pos_embed.weight", {config.num_positions, config.hidden_size})),
      side_(static_cast<std::int64_t>(std::sqrt(static_cast<double>(config.num_positions)))),
      merger_(weights.select("merger."), config, Merger::NormOf::kPatch),
      deepstack_(config.deepstack) {
  for (std::int64_t i = 0; i < config.depth; ++i) {
    const weights::StateDict block = weights.select(fmt::format("blocks.{}.", i));
    const auto norm = [&](const char* name) {
      return nn::LayerNorm(block, name, config.hidden_size, kNormEps);
    };
    blocks_.push_back({norm("norm1"), norm("norm2"), VisionAttention(block, config),
                       nn::Mlp(block, "mlp.linear_fc1", "mlp.linear_fc2", config.hidden_size, config.mlp_dim,
                               config.hidden_size, config.activation)});
  }
  for (std::size_t i = 0; i < deepstack_.size(); ++i) {
    deepstack_mergers_.emplace_back(weights.select(fmt::format("deepstack_merger_list.{}.", i)), config,
                                    Merger::NormOf::kToken);
  }
}

at::Tensor GridTower::positions(std::span<const Frame> frames) const {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const auto& [values, h, w] = frames[i];
    if (i > 0 && frames[i - 1].h == h && frames[i - 1].w == w) {  // The next frame of a video.
      parts.push_back(parts.back());
      continue;
    }
    const GridTaps taps = grid_taps(h, w, side_, config().merge_size);
    const at::Tensor index = taps.index.to(device()), weight = taps.weight.unsqueeze(2).to(device());
    at::Tensor sum = grid_.index_select(0, index[0]) * weight[0];
    for (std::int64_t tap = 1; tap < 4; ++tap) sum += grid_.index_select(0, index[tap]) * weight[tap];
    parts.push_back(sum.to(grid_.scalar_type()));
  }
  return at::cat(parts);
}

at::Tensor GridTower::encode(std::span<const Frame> frames) const {
  const nn::RopeTable rope = rotation(frames);
  const std::vector<std::int32_t> cu_seqlens = boundaries(frames);
  at::Tensor x = embed_patches(frames).add_(positions(frames));
  std::vector<at::Tensor> columns(1);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i](x, rope, cu_seqlens);
    const std::size_t next = columns.size() - 1;
    if (next < deepstack_.size() && deepstack_[next] == static_cast<std::int64_t>(i))
      columns.push_back(deepstack_mergers_[next](x));
  }
  columns.front() = merger_(x);
  return at::cat(columns, 1);
}

}  // namespace tte::models::qwen
