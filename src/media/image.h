// Files, bytes and arrays into RGB pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "tte/input.h"

namespace tte::media {

struct DecodeLimits {
  // Width times height, read from the header before anything is decoded. Pillow's default.
  std::int64_t max_pixels = kMaxImagePixels;
  std::int64_t max_file_bytes = std::int64_t{1} << 30;
  // Width times height times frames taken from one video, checked before they are decoded (3 bytes each).
  std::int64_t max_video_pixels = 2'000'000'000;
};

// One picture as uint8 [height, width, 3] RGB, upright (EXIF orientation applied for files and bytes).
//
// JPEG, PNG, WebP, GIF and BMP (the first frame of an animation) and TIFF are told by their first bytes;
// nothing else reaches a decoder. Pixels equal Pillow's exif_transpose + convert("RGB"), with one exception:
// 16 bits a channel are rounded to 8, where Pillow truncates colour and clips grey and transformers does not
// scale at all. As Pillow, a file that ends too early is refused and damaged entropy-coded data in a JPEG
// that is otherwise complete is not; a bad checksum in a PNG is refused.
//
// Throws InputError naming `item` (and the file, when there is one).
at::Tensor decode_image(const Image& image, const std::string& item, const DecodeLimits& limits = {});

}  // namespace tte::media
