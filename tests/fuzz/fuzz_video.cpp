// read_video on arbitrary files: an InputError or frames of one size, nothing else. Good seeds: the videos of
// tests/data/media and tests/data/media/containers.
#include <ATen/core/Tensor.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "media/video.h"
#include "tte/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tte;
  static const int file = memfd_create("video", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (file < 0 || ftruncate(file, static_cast<off_t>(size)) != 0 ||
      pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) {
    std::abort();
  }
  MediaLimits limits;  // Keep runs fast; the limits themselves are under test too.
  limits.max_pixels = 1 << 18;
  limits.max_item_bytes = 1 << 26;
  limits.max_item_pixels = 1 << 22;
  Video video;
  video.source = std::filesystem::path(path);
  video.num_frames = 4;
  try {
    const media::Frames frames = media::read_video(video, {}, limits);
    for (const at::Tensor& image : frames.images) {
      if (image.dim() != 3 || image.size(2) != 3 || image.sizes() != frames.images[0].sizes()) std::abort();
    }
  } catch (const InputError&) {
  }
  return 0;
}
