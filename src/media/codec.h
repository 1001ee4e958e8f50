// What the decoders of the single formats share. Internal to media/.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "media/image.h"

namespace tte::media {

using Bytes = std::span<const std::uint8_t>;

// One encoded image, and how to speak of it.
struct Source {
  Budget& budget;  // The item's.
  Bytes bytes;
  std::string label;          // "image \"cat.jpg\"".
  bool want_alpha = false;    // Whether transparency matters to the caller.
  Size* announced = nullptr;  // If set: becomes the size that the header tells.
  ImageFile* file = nullptr;  // If set: told whether the pixels were upright.

  // Throws InputError: label, then `why`.
  [[noreturn]] void fail(std::string_view why) const;
  // Throws InputError unless 0 < width * height <= max_pixels. Called with the header's numbers, before any
  // pixel is decoded.
  void check_size(std::int64_t width, std::int64_t height) const;
  // Memory that a decoder works in, beside the image.
  [[nodiscard]] Budget::Loan borrow(std::int64_t bytes) const { return budget.borrow(bytes, label); }
  // Before every pass over so many pixels.
  void work(std::int64_t pixels) const { budget.work(pixels, label); }
  // An uninitialised uint8 [height, width, channels], where there is memory for it and for a copy turned upright.
  [[nodiscard]] at::Tensor allocate(std::int64_t height, std::int64_t width, int channels) const;
};

struct Decoded {
  // uint8 [height, width, 3], or 4 with straight alpha where the file has it and it is wanted.
  at::Tensor pixels;
  int orientation = 1;  // EXIF orientation that is still to be applied, 1 to 8.
};

Decoded decode_jpeg(const Source& source);
Decoded decode_png(const Source& source);
Decoded decode_webp(const Source& source);
Decoded decode_gif(const Source& source);
Decoded decode_bmp(const Source& source);
Decoded decode_tiff(const Source& source);

// Decodes the format that the magic bytes announce, applies alpha and orientation: uint8 [height, width, 3].
at::Tensor decode_bytes(const Source& source, Alpha alpha);

// CMYK (0 = no ink) to RGB with Pillow's arithmetic. `cmyk` and `rgb` hold `pixels` pixels and may not overlap.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::int64_t pixels);

}  // namespace tte::media
