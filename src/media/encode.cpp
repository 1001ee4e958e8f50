#include "media/encode.h"

#include <png.h>

#include <new>

namespace tte::media {

std::vector<std::uint8_t> encode_png(const at::Tensor& image) {
  const at::Tensor pixels = image.contiguous();
  png_image header = {};
  header.version = PNG_IMAGE_VERSION;
  header.height = static_cast<png_uint_32>(pixels.size(0));
  header.width = static_cast<png_uint_32>(pixels.size(1));
  header.format = PNG_FORMAT_RGB;
  header.flags = PNG_IMAGE_FLAG_FAST;  // Large files cost less than the time that small ones take.
  std::vector<std::uint8_t> out(PNG_IMAGE_PNG_SIZE_MAX(header));
  png_alloc_size_t size = out.size();
  // Nothing else can go wrong with memory on both sides.
  if (png_image_write_to_memory(&header, out.data(), &size, 0, pixels.const_data_ptr<std::uint8_t>(), 0,
                                nullptr) == 0) {
    throw std::bad_alloc();
  }
  out.resize(size);
  return out;
}

}  // namespace tte::media
