// Files, bytes and arrays into RGB pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "media/budget.h"
#include "tte/input.h"

namespace tte::media {

struct Size {
  std::int64_t height = 0;
  std::int64_t width = 0;
};

// The file that an image was decoded from, for whoever hands it on as it is.
struct ImageFile {
  std::vector<std::uint8_t> bytes;  // None of decoded pixels.
  bool upright = true;              // Its own pixels are, without its EXIF orientation.
};

// One image as uint8 [height, width, 3] RGB, upright (EXIF orientation applied for files and bytes).
//
// JPEG, PNG, WebP, GIF and BMP (the first frame of an animation) and TIFF are told by their first bytes;
// nothing else reaches a decoder. Pixels equal Pillow's exif_transpose + convert("RGB"), with two exceptions, both
// as the processors of transformers read a file by its path: 16 bits a channel are rounded to 8, where Pillow
// truncates colour and clips grey, and a GIF without alpha shows its background colour where it is see-through or
// does not reach. One transparent colour of a palette, of grey or RGB is then seen as any other. As Pillow, a file
// that ends too early is refused and damaged entropy-coded data in a JPEG
// that is otherwise complete is not; a bad checksum in a PNG is refused.
//
// `where` begins errors, as "frame 3: " of a video. Throws InputError naming the file, when there is one.
at::Tensor decode_image(const Image& image, Budget& budget, const std::string& where = {},
                        ImageFile* file = nullptr);
// The image as an item of its own.
inline at::Tensor decode_image(const Image& image, const MediaLimits& limits = {}) {
  Budget budget(limits);
  return decode_image(image, budget);
}

// What errors call an image or a video that is a file or folder: "image \"cat.jpg\"".
std::string label_of_file(const char* kind, const std::filesystem::path& path);

// What an image says of itself before anything is decoded.
struct Announced {
  std::string label;           // "image \"cat.jpg\"".
  Size size;                   // Before its orientation is applied.
  std::int64_t bytes = 0;      // The size of the file, or of the pixels.
  std::uint64_t identity = 0;  // The same for the same file, bytes or pixels.
};

// Nothing where it cannot be told: decode_image says why. Of a file as much is read as that takes.
std::optional<Announced> look_at(const Image& image, const MediaLimits& limits);

}  // namespace tte::media
