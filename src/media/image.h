// Files, bytes and arrays into RGB pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "tte/input.h"

namespace tte::media {

struct DecodeLimits {
  // Width times height, read from the header before anything is decoded. Pillow's default.
  std::int64_t max_pixels = 178'956'970;
  std::int64_t max_file_bytes = std::int64_t{1} << 30;
};

// One picture as uint8 [height, width, 3] RGB, upright (EXIF orientation applied for files and bytes).
// Throws InputError naming `item` (and the file, when there is one) for anything that is not wholly decodable.
at::Tensor decode_image(const Image& image, const std::string& item, const DecodeLimits& limits = {});

}  // namespace tte::media
