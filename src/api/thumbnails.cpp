#include "tte/thumbnails.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "media/image.h"
#include "media/patches.h"
#include "media/video.h"
#include "tte/error.h"

namespace tte {
namespace {

Pixels shrink(const at::Tensor& image, int side) {
  const std::int64_t height = image.size(0);
  const std::int64_t width = image.size(1);
  const double scale =
      std::min(1.0, static_cast<double>(side) / static_cast<double>(std::max(height, width)));
  const auto scaled = [&](std::int64_t length) {
    return std::max<std::int64_t>(1, std::llround(static_cast<double>(length) * scale));
  };
  const at::Tensor small = media::resize(image, {scaled(height), scaled(width)});
  Pixels pixels;
  pixels.height = static_cast<int>(small.size(0));
  pixels.width = static_cast<int>(small.size(1));
  pixels.data = std::shared_ptr<const std::uint8_t>(std::make_shared<at::Tensor>(small),
                                                    small.const_data_ptr<std::uint8_t>());
  return pixels;
}

}  // namespace

std::vector<Pixels> thumbnails(const Part& part, int side, int frames) {
  if (side < 1 || side > 1024) throw InputError(fmt::format("side is {}: it must be from 1 to 1024.", side));
  if (frames < 1) throw InputError(fmt::format("frames is {}: it must be at least 1.", frames));
  if (const auto* image = std::get_if<Image>(&part)) {
    return {shrink(media::decode_image(*image, "thumbnail"), side)};
  }
  std::vector<Pixels> out;
  if (const auto* given = std::get_if<Video>(&part)) {
    Video video = *given;
    video.fps.reset();
    video.num_frames.reset();
    media::FrameSampling few;
    few.num_frames = frames;
    few.temporal_patch_size = 1;
    for (const at::Tensor& frame : media::read_video(video, few, "thumbnail").images) {
      out.push_back(shrink(frame, side));
    }
  }
  return out;
}

}  // namespace tte
