#include "media/patches.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tte/error.h"

namespace tte::media {
namespace {

constexpr int kChannels = 3;

// Normalised value of every 8-bit level, per channel. 256 levels make a table exact and cheaper than arithmetic.
using Levels = std::array<std::array<float, 256>, kChannels>;

// The float32 arithmetic of transformers' rescale_and_normalize: with both steps on, mean and std are
// multiplied by 1 / rescale (in float32) and the raw level is normalised with them.
Levels normalised_levels(const PatchSpec& spec) {
  Levels levels{};
  const auto inverse_rescale = static_cast<float>(1.0 / spec.rescale);
  for (int c = 0; c < kChannels; ++c) {
    auto mean = static_cast<float>(spec.mean[c]);
    auto std = static_cast<float>(spec.std[c]);
    if (spec.do_rescale) {
      mean *= inverse_rescale;
      std *= inverse_rescale;
    }
    for (int level = 0; level < 256; ++level) {
      auto value = static_cast<float>(level);
      if (spec.do_normalize) {
        value = (value - mean) / std;
      } else if (spec.do_rescale) {
        value *= static_cast<float>(spec.rescale);
      }
      levels[c][level] = value;
    }
  }
  return levels;
}

// The size of the patch grid, and where a patch lies in the output.
struct Layout {
  std::int64_t t, h, w;
  int patch, merge, temporal;

  [[nodiscard]] std::int64_t plane() const { return std::int64_t{patch} * patch; }
  [[nodiscard]] std::int64_t row() const { return kChannels * temporal * plane(); }
};

// One patch of one frame into the three channel planes of `out`, which lie `channel_stride` floats apart.
template <int kPatch>
void fill_patch(const std::uint8_t* pixels, std::int64_t pixel_stride, int patch_size, const Levels& levels,
                float* out, std::int64_t channel_stride) {
  const int patch = kPatch > 0 ? kPatch : patch_size;
  float* red = out;
  float* green = out + channel_stride;
  float* blue = out + 2 * channel_stride;
  for (int y = 0; y < patch; ++y) {
    const std::uint8_t* p = pixels + y * pixel_stride;
    for (int x = 0; x < patch; ++x) {
      red[x] = levels[0][p[3 * x]];
      green[x] = levels[1][p[3 * x + 1]];
      blue[x] = levels[2][p[3 * x + 2]];
    }
    red += patch;
    green += patch;
    blue += patch;
  }
}

// All patches of one row of merge blocks of one temporal group, whose frames are `frames` (equal pointers for
// a repeated frame).
template <int kPatch>
void fill_block_row(const Layout& layout, const std::vector<const std::uint8_t*>& frames,
                    std::int64_t block_row, const Levels& levels, float* out) {
  const int patch = layout.patch;
  const std::int64_t plane = layout.plane();
  const std::int64_t pixel_stride = layout.w * patch * kChannels;
  for (std::int64_t block = 0; block < layout.w / layout.merge; ++block) {
    for (int my = 0; my < layout.merge; ++my) {
      for (int mx = 0; mx < layout.merge; ++mx, out += layout.row()) {
        const std::int64_t y = (block_row * layout.merge + my) * patch;
        const std::int64_t x = (block * layout.merge + mx) * patch;
        const std::int64_t offset = y * pixel_stride + x * kChannels;
        for (int k = 0; k < layout.temporal; ++k) {
          if (k > 0 && frames[k] == frames[k - 1]) {
            for (int c = 0; c < kChannels; ++c) {
              float* to = out + (c * layout.temporal + k) * plane;
              std::memcpy(to, to - plane, plane * sizeof(float));
            }
          } else {
            fill_patch<kPatch>(frames[k] + offset, pixel_stride, patch, levels, out + k * plane,
                               layout.temporal * plane);
          }
        }
      }
    }
  }
}

// The patch sizes that models have are known to the compiler.
auto fill_for(int patch_size) {
  switch (patch_size) {
    case 14:
      return fill_block_row<14>;
    case 16:
      return fill_block_row<16>;
    default:
      return fill_block_row<0>;
  }
}

}  // namespace

at::Tensor resize(const at::Tensor& image, Size size) {
  at::Tensor pixels = image.device().is_cpu() ? image.contiguous() : image.cpu().contiguous();
  const std::int64_t height = pixels.size(0);
  const std::int64_t width = pixels.size(1);
  if (height == size.height && width == size.width) return pixels;
  // The batch stride is spelled out: with it the tensor is unambiguously channels-last, and the kernel then
  // neither repacks its input nor its output.
  const at::Tensor view = pixels.as_strided({1, kChannels, height, width},
                                            {height * width * kChannels, 1, width * kChannels, kChannels});
  const at::Tensor resized = at::_upsample_bicubic2d_aa(view, {size.height, size.width},
                                                        /*align_corners=*/false, std::nullopt, std::nullopt);
  return resized.squeeze(0).permute({1, 2, 0}).contiguous();
}

std::int64_t patch_bytes(Size size, std::int64_t frames, const PatchSpec& spec) {
  const std::int64_t groups = (frames + spec.temporal_patch_size - 1) / spec.temporal_patch_size;
  const double bytes = static_cast<double>(groups) * spec.temporal_patch_size *
                       static_cast<double>(size.height) * static_cast<double>(size.width) * kChannels *
                       sizeof(float);
  return bytes < 9e18 ? static_cast<std::int64_t>(bytes) : std::numeric_limits<std::int64_t>::max();
}

Patches patchify(const std::vector<at::Tensor>& frames, const PatchSpec& spec, Size size) {
  Layout layout{};
  layout.patch = spec.patch_size;
  layout.merge = spec.merge_size;
  layout.temporal = spec.temporal_patch_size;
  layout.t = (static_cast<std::int64_t>(frames.size()) + layout.temporal - 1) / layout.temporal;
  layout.h = size.height / layout.patch;
  layout.w = size.width / layout.patch;
  const Levels levels = normalised_levels(spec);
  const auto fill = fill_for(layout.patch);

  Patches patches;
  patches.t = layout.t;
  patches.h = layout.h;
  patches.w = layout.w;
  patches.values = at::empty({layout.t * layout.h * layout.w, layout.row()}, at::kFloat);
  auto* out = patches.values.mutable_data_ptr<float>();

  // The values follow from the resized 8-bit pixels, the table and the layout: hashing those is a tenth of the work.
  base::Digester digester;
  digester.number(layout.t).number(layout.h).number(layout.w);
  digester.number(layout.patch).number(layout.merge).number(layout.temporal);
  digester.bytes(levels.data(), sizeof(levels));

  std::vector<const std::uint8_t*> group(layout.temporal);
  const std::int64_t block_rows = layout.h / layout.merge;
  const std::int64_t group_floats = layout.h * layout.w * layout.row();
  std::vector<at::Tensor> resized(layout.temporal);
  for (std::int64_t t = 0; t < layout.t; ++t) {
    for (int k = 0; k < layout.temporal; ++k) {
      const auto index = static_cast<std::size_t>(t * layout.temporal + k);
      if (index < frames.size()) {
        resized[k] = resize(frames[index], size);
        digester.bytes(resized[k].const_data_ptr<std::uint8_t>(),
                       static_cast<std::size_t>(resized[k].numel()));
      } else {
        resized[k] = resized[k - 1];
      }
      group[k] = resized[k].const_data_ptr<std::uint8_t>();
    }
    float* group_out = out + t * group_floats;
    at::parallel_for(0, block_rows, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        fill(layout, group, r, levels, group_out + r * (group_floats / block_rows));
      }
    });
  }
  patches.digest = digester.finish();
  return patches;
}

}  // namespace tte::media
