// Resize, rescale, normalise and patchify: pixels into what a vision tower reads.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/digest.h"
#include "media/image.h"

namespace tte::media {

// How pixels become patches; the sizes are the family's.
struct PatchSpec {
  int patch_size = 1;
  int merge_size = 1;
  int temporal_patch_size = 1;
  std::array<double, 3> mean = {0, 0, 0};
  std::array<double, 3> std = {1, 1, 1};
  double rescale = 1.0 / 255.0;
  bool do_rescale = true;
  bool do_normalize = true;
};

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

// The patches of an image, or of a video's frames: uint8 [height, width, 3], each resized to `size` if it has
// another; its sides are multiples of patch_size * merge_size. A last group of too few frames repeats the last.
Patches patchify(const std::vector<at::Tensor>& frames, const PatchSpec& spec, Size size);

}  // namespace tte::media
