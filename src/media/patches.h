// Resize, rescale, normalise and patchify: pixels into what a vision tower reads.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "tte/input.h"

namespace tte::media {

struct Size {
  std::int64_t height = 0;
  std::int64_t width = 0;
};

// The numbers of preprocessor_config.json / video_preprocessor_config.json.
struct PatchSpec {
  int patch_size = 14;
  int merge_size = 2;
  int temporal_patch_size = 2;
  std::int64_t min_pixels = 56 * 56;
  std::int64_t max_pixels = 28 * 28 * 1280;
  std::array<double, 3> mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> std = {0.26862954, 0.26130258, 0.27577711};
  double rescale = 1.0 / 255.0;
  bool do_resize = true;
  bool do_rescale = true;
  bool do_normalize = true;
  // Videos only: bounds each frame to an even share of a budget of max_video_tokens tokens' worth of pixels.
  bool cap_pixels_per_frame = false;
  std::int64_t max_video_tokens = 128'000;

  // Resize as if the image had this size; unset: its own.
  std::optional<Size> aim;

  [[nodiscard]] int factor() const { return patch_size * merge_size; }
};

// transformers' defaults for a checkpoint that has no video_preprocessor_config.json entries of its own.
inline PatchSpec default_video_patch_spec() {
  PatchSpec spec;
  spec.min_pixels = 128 * 28 * 28;
  spec.max_pixels = 28 * 28 * 768;
  return spec;
}

// The spec with what one image or video asks for over it; where only one limit is asked for and the spec's
// other one excludes it, that one gives way. Throws InputError naming `item` for values out of range.
PatchSpec with_resize(const PatchSpec& spec, const Resize& wanted, const std::string& item);

// The size an image is resized to: sides rounded (half to even) to multiples of factor(), area within
// [min_pixels, max_pixels]. Qwen2-VL's smart_resize. Throws InputError naming `item` for an aspect ratio over
// 200.
Size smart_resize(Size size, const PatchSpec& spec, const std::string& item);

// The size that the patches of an image, and of a video's frames, are cut from: smart_resize, or their own
// when the spec does not resize.
Size image_size(Size image, const PatchSpec& spec, const std::string& item);
Size video_size(Size frame, std::int64_t frames, const PatchSpec& spec, const std::string& item);

// uint8 [height, width, 3] resized by antialiased bicubic interpolation in 8 bits: torchvision's kernel.
at::Tensor resize(const at::Tensor& image, Size size);

// Patches of one image or video: bit-equal to, and in the order of transformers' Qwen2VLImageProcessor
// (torchvision backend): blocks of merge_size x merge_size patches, row by row.
struct Patches {
  at::Tensor values;                 // float32 [t * h * w, 3 * temporal_patch_size * patch_size * patch_size]
  std::int64_t t = 0, h = 0, w = 0;  // The grid, in patches (before merging).
  base::Digest digest;               // Equal digests mean equal values and grid.
};

// The bytes of Patches::values.
std::int64_t patch_bytes(Size size, std::int64_t frames, const PatchSpec& spec);

// The patches of frames that are resized to `size`, or still to be: uint8 [height, width, 3].
Patches patchify(const std::vector<at::Tensor>& frames, const PatchSpec& spec, Size size);

// `image` is uint8 [height, width, 3].
Patches patchify_image(const at::Tensor& image, const PatchSpec& spec, const std::string& item);

// Frames share the first frame's target size; an odd count repeats the last frame.
Patches patchify_video(const std::vector<at::Tensor>& frames, const PatchSpec& spec, const std::string& item);

}  // namespace tte::media
