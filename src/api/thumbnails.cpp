#include "tte/thumbnails.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "api/call.h"
#include "base/plain_error.h"
#include "media/image.h"
#include "media/patches.h"
#include "media/video.h"
#include "tte/error.h"

namespace tte {
namespace {

// The longer side at most `side`.
media::Size shrunk(media::Size size, int side) {
  const double scale =
      std::min(1.0, static_cast<double>(side) / static_cast<double>(std::max(size.height, size.width)));
  const auto scaled = [&](std::int64_t length) {
    return std::max<std::int64_t>(1, std::llround(static_cast<double>(length) * scale));
  };
  return {scaled(size.height), scaled(size.width)};
}

Pixels pixels_of(const at::Tensor& image) {
  Pixels pixels;
  pixels.height = static_cast<int>(image.size(0));
  pixels.width = static_cast<int>(image.size(1));
  pixels.data = std::shared_ptr<const std::uint8_t>(std::make_shared<at::Tensor>(image),
                                                    image.const_data_ptr<std::uint8_t>());
  return pixels;
}

}  // namespace

std::vector<Pixels> thumbnails(const Part& part, int side, int frames) {
  if (side < 1 || side > 1024) throw InputError(fmt::format("side is {}: it must be from 1 to 1024.", side));
  if (frames < 1) throw InputError(fmt::format("frames is {}: it must be at least 1.", frames));
  return base::with_name("thumbnail", api::kLessOfAnItem, [&]() -> std::vector<Pixels> {
    if (const auto* image = std::get_if<Image>(&part)) {
      const at::Tensor decoded = media::decode_image(*image);
      return {pixels_of(media::resize(decoded, shrunk({decoded.size(0), decoded.size(1)}, side)))};
    }
    std::vector<Pixels> out;
    if (const auto* video = std::get_if<Video>(&part)) {
      const auto evenly = [frames](int total, std::optional<double> /*source_fps*/) {
        const int count = std::min(frames, total);
        std::vector<int> indices;
        indices.reserve(static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) indices.push_back(static_cast<int>(std::int64_t{i} * total / count));
        return indices;
      };
      const auto fit = [side](media::Size frame, std::int64_t /*frames*/) { return shrunk(frame, side); };
      media::Budget budget;
      for (const at::Tensor& frame : media::read_video(*video, budget, evenly, fit).images)
        out.push_back(pixels_of(frame));
    }
    return out;
  });
}

}  // namespace tte
