// decode_image on arbitrary bytes, and the EXIF and XMP readers: an InputError or pixels, nothing else.
// Good seeds: the files of tests/data/media/images.
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "media/exif.h"
#include "media/image.h"
#include "tte/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tte;
  const media::Bytes bytes(data, size);
  const int orientation = media::choose_orientation(bytes, bytes);
  if (orientation < 1 || orientation > 8) std::abort();

  MediaLimits limits;
  limits.max_pixels = 1 << 20;  // Keeps runs fast; the limit itself is under test too.
  const auto copy = std::make_shared<const std::vector<std::uint8_t>>(data, data + size);
  for (const Alpha alpha : {Alpha::kDrop, Alpha::kOverWhite}) {
    try {
      const at::Tensor pixels = media::decode_image({EncodedImage{copy}, alpha}, limits);
      if (pixels.dim() != 3 || pixels.size(2) != 3 || pixels.numel() > 3 * limits.max_pixels) std::abort();
    } catch (const InputError&) {
    }
  }
  return 0;
}
