// Pixels into a file that any reader of images takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace tte::media {

// A PNG of uint8 [height, width, 3]; the same bytes for the same pixels. Throws std::bad_alloc.
std::vector<std::uint8_t> encode_png(const at::Tensor& image);

}  // namespace tte::media
