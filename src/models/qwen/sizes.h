// The sizes that Qwen's processors resize images and videos to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "media/patches.h"
#include "models/frames.h"
#include "models/processor_files.h"
#include "tte/input.h"

namespace tte::models::qwen {

using media::Size;

// The frames of a video where neither the checkpoint nor the recipe says: fps counts within these bounds.
inline constexpr FrameSampling kFrameBounds = {.min_frames = 4, .max_frames = 768};

// The numbers of preprocessor_config.json / video_preprocessor_config.json.
struct VisualSpec {
  media::PatchSpec patches = {
      .patch_size = 14, .merge_size = 2, .temporal_patch_size = 2, .mean = kClipMean, .std = kClipStd};
  std::int64_t min_pixels = 56 * 56;
  std::int64_t max_pixels = 28 * 28 * 1280;
  bool do_resize = true;
  // Videos only: bounds each frame to an even share of a budget of max_video_tokens tokens' worth of pixels.
  bool cap_pixels_per_frame = false;
  std::int64_t max_video_tokens = 128'000;
  // Videos only: the frames that are taken where neither the input nor the recipe says; unset: all.
  std::optional<FrameSampling> sampling;

  // Resize as if the image had this size; unset: its own.
  std::optional<Size> aim;

  [[nodiscard]] int factor() const { return patches.patch_size * patches.merge_size; }
};

// The spec with what one image or video asks for over it; where only one limit is asked for and the spec's
// other one excludes it, that one gives way. Throws InputError for values out of range.
VisualSpec with_resize(const VisualSpec& spec, const Resize& wanted);

// The size an image is resized to: sides rounded (half to even) to multiples of factor(), area within
// [min_pixels, max_pixels]. Qwen2-VL's smart_resize. Throws InputError for an aspect ratio over
// 200.
Size smart_resize(Size size, const VisualSpec& spec);

// The size that the patches of an image, and of a video's frames, are cut from: smart_resize, or their own
// when the spec does not resize. What the limits of a video hold for is the family's rule:
// - video_size: one frame, and with cap_pixels_per_frame a share of max_video_tokens (Qwen2-VL, Qwen2.5-VL);
// - clip_size: all frames together, and with cap_pixels_per_frame at most max_video_tokens for one (Qwen3-VL).
//   Throws InputError for a clip of fewer frames than a temporal patch has, as the reference does;
// - utils_size: one frame, and a share of `total_pixels` (fetch_video of the package qwen-vl-utils).
// - utils_image_size: fetch_image of that package, which no side of an image is too small for.
Size image_size(Size image, const VisualSpec& spec);
Size utils_image_size(Size image, const VisualSpec& spec);
Size video_size(Size frame, std::int64_t frames, const VisualSpec& spec);
Size clip_size(Size frame, std::int64_t frames, const VisualSpec& spec);
Size utils_size(Size frame, std::int64_t frames, const VisualSpec& spec, double total_pixels);

}  // namespace tte::models::qwen
