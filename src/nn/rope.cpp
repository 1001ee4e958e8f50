#include "nn/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numbers>

namespace tte::nn {
namespace {

// 1 / theta^(2i / dim) for i in 0 .. dim / 2, with the operations of transformers in the same order and precision.
at::Tensor inverse_frequencies(std::int64_t dim, double theta) {
  const at::Tensor exponents = at::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim);
  return at::pow(at::Scalar(theta), exponents).reciprocal();
}

// As transformers' "linear" and "llama3".
at::Tensor scaled(const at::Tensor& frequencies, const RopeScaling& scaling) {
  if (!scaling.low_freq_factor) return scaling.factor == 1 ? frequencies : frequencies / scaling.factor;
  const double low = *scaling.low_freq_factor, high = *scaling.high_freq_factor;
  const auto positions = static_cast<double>(scaling.original_positions);
  // Positions that a frequency needs to turn once.
  const at::Tensor length = frequencies.reciprocal() * (2 * std::numbers::pi);
  const at::Tensor slow = length > positions / low, fast = length < positions / high;
  const at::Tensor divided = at::where(slow, frequencies / scaling.factor, frequencies);
  const at::Tensor share = (length.reciprocal() * positions - low) / (high - low);
  const at::Tensor between = (1 - share) * divided / scaling.factor + share * divided;
  return at::where(slow.logical_or(fast), divided, between);
}

}  // namespace

RopeTable RopeTable::select(const at::Tensor& rows) const {
  return {cos.index_select(0, rows), sin.index_select(0, rows)};
}

Rope::Rope(const at::Tensor& inverse_frequencies, const at::Tensor& axes, at::Device device)
    : inverse_frequencies_(inverse_frequencies.to(device)), axes_(axes.to(device)) {}

Rope Rope::text(std::int64_t head_dim, double theta, const std::vector<std::int64_t>& axes,
                const RopeScaling& scaling, at::Device device) {
  return {scaled(inverse_frequencies(head_dim, theta), scaling), at::tensor(axes, at::kLong), device};
}

Rope Rope::vision(std::int64_t head_dim, double theta, at::Device device) {
  const at::Tensor axis = inverse_frequencies(head_dim / 2, theta);
  const at::Tensor h = at::zeros({head_dim / 4}, at::kLong);
  return {at::cat({axis, axis}), at::cat({h, h + 1}), device};
}

RopeTable Rope::table(const at::Tensor& positions, at::ScalarType rounding) const {
  // [half, rows] -> [rows, half]: the position that each frequency turns with.
  const at::Tensor turning = positions.to(at::kFloat).index_select(0, axes_).t();
  const at::Tensor half = (turning * inverse_frequencies_).contiguous();
  const auto whole = [rounding](const at::Tensor& values) {
    const at::Tensor rounded = values.to(rounding).to(at::kFloat);
    return at::cat({rounded, rounded}, 1);
  };
  return {whole(half.cos()), whole(half.sin())};
}

std::vector<std::int64_t> contiguous_sections(const std::vector<std::int64_t>& sections) {
  std::vector<std::int64_t> axes;
  for (std::size_t axis = 0; axis < sections.size(); ++axis) {
    axes.insert(axes.end(), static_cast<std::size_t>(sections[axis]), static_cast<std::int64_t>(axis));
  }
  return axes;
}

std::vector<std::int64_t> interleaved_sections(const std::vector<std::int64_t>& sections,
                                               std::int64_t frequencies) {
  std::vector<std::int64_t> axes(static_cast<std::size_t>(frequencies), 0);
  for (std::size_t axis = 1; axis < sections.size(); ++axis) {
    const std::size_t end = std::min(axes.size(), static_cast<std::size_t>(sections[axis]) * sections.size());
    for (std::size_t i = axis; i < end; i += sections.size()) axes[i] = static_cast<std::int64_t>(axis);
  }
  return axes;
}

}  // namespace tte::nn
