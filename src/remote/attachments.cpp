#include "remote/attachments.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "media/encode.h"
#include "media/patches.h"
#include "media/video.h"
#include "models/frames.h"
#include "prompt/media_reader.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using base::Json;
using media::Size;

// Frames of a video: where neither its item nor the recipe says how many, what most systems take; the most by a rate.
constexpr int kFrames = 8, kMostFrames = 768;

std::string_view mime_of(const std::vector<std::uint8_t>& file) {
  if (file.size() > 3 && file[0] == 0xFF && file[1] == 0xD8) return "image/jpeg";
  if (file.size() > 8 && file[0] == 0x89 && file[1] == 'P') return "image/png";
  return {};
}

std::int64_t scaled(std::int64_t side, double scale, bool up) {
  const double exact = static_cast<double>(side) * scale;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(up ? std::ceil(exact) : std::floor(exact)));
}

}  // namespace

std::string to_base64(const std::vector<std::uint8_t>& bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto at = [&](std::size_t k) { return i + k < bytes.size() ? std::uint32_t{bytes[i + k]} : 0U; };
    const std::uint32_t group = at(0) << 16 | at(1) << 8 | at(2);
    for (int digit = 3; digit >= 0; --digit) out += kDigits[(group >> (6 * digit)) & 63];
  }
  for (std::size_t k = 0; k < (3 - bytes.size() % 3) % 3; ++k) out[out.size() - 1 - k] = '=';
  return out;
}

Size fitted(Size size, const Resize& wanted, std::optional<std::int64_t> min_pixels,
            std::optional<std::int64_t> max_pixels) {
  if (wanted.height && wanted.width)
    size = {std::max<std::int64_t>(1, *wanted.height), std::max<std::int64_t>(1, *wanted.width)};
  if (wanted.min_pixels) min_pixels = wanted.min_pixels;
  if (wanted.max_pixels) max_pixels = wanted.max_pixels;
  const double area = static_cast<double>(size.height) * static_cast<double>(size.width);
  const bool shrink = max_pixels && area > static_cast<double>(*max_pixels);
  const bool enlarge = !shrink && min_pixels && area < static_cast<double>(*min_pixels);
  if (!shrink && !enlarge) return size;
  const double scale = std::sqrt(static_cast<double>(shrink ? *max_pixels : *min_pixels) / area);
  return {scaled(size.height, scale, enlarge), scaled(size.width, scale, enlarge)};
}

Json Attachments::part_of(std::string_view mime, const std::vector<std::uint8_t>& file) {
  // The text of it, in the message and in the request.
  budget_.keep(static_cast<std::int64_t>(file.size()) * 8 / 3, "an image for the server");
  return {{"type", "image_url"},
          {"image_url", {{"url", fmt::format("data:{};base64,{}", mime, to_base64(file))}}}};
}

Json Attachments::png(const at::Tensor& pixels) {
  const media::Budget::Loan loan = budget_.borrow(static_cast<std::int64_t>(pixels.nbytes()),
                                                  "an image that is made a PNG for the server");
  return part_of("image/png", media::encode_png(pixels));
}

Json Attachments::image(const Image& image) {
  media::ImageFile file;
  const at::Tensor pixels = media::decode_image(image, budget_, {}, &file);
  const Size own{pixels.size(0), pixels.size(1)};
  const models::VisualOptions& limits = recipe_.visuals;
  const Size size = fitted(own, image.resize, limits.image_min_pixels, limits.image_max_pixels);
  if (size.height != own.height || size.width != own.width) {
    const media::Budget::Loan loan =
        budget_.borrow(size.height * size.width * 3, "a resized image for the server");
    return png(media::resize(pixels, size));
  }
  const std::string_view mime = mime_of(file.bytes);
  if (mime.empty() || !file.upright || image.alpha != Alpha::kDrop) return png(pixels);
  return part_of(mime, file.bytes);
}

Json Attachments::video(const Video& video) {
  const models::VisualOptions& limits = recipe_.visuals;
  models::FrameSampling rule;
  rule.fps = limits.frames.fps;
  rule.num_frames = limits.frames.num_frames;
  if (!rule.fps && !rule.num_frames) rule.num_frames = kFrames;
  rule.min_frames = limits.frames.min_frames.value_or(1);
  rule.max_frames = limits.frames.max_frames.value_or(kMostFrames);
  const auto sample = [&](int total, std::optional<double> source_fps) {
    const models::FrameSampling chosen = models::choose_rule(video, rule, 1, total, source_fps);
    return models::sample_frames(total, source_fps, chosen, 1);
  };
  const auto fit = [&](Size frame, std::int64_t /*frames*/) {
    return fitted(frame, video.resize, limits.video_min_pixels, limits.video_max_pixels);
  };
  const media::Frames frames = media::read_video(video, budget_, sample, fit);
  Json out = Json::array();
  for (const at::Tensor& frame : frames.images) {
    budget_.check_cancelled();
    out.push_back(png(frame));
  }
  return out;
}

Json Attachments::read(const Part& part) {
  if (const auto* still = std::get_if<Image>(&part)) return Json::array({image(*still)});
  return video(std::get<Video>(part));
}

std::vector<Json> Attachments::read_all(const Input& input) {
  std::vector<Json> out;
  for (const Part& part : input.parts) {
    if (!std::holds_alternative<std::string>(part)) out.push_back(read(part));
  }
  if (out.empty() && recipe_.prompt.blank_image > 0) {
    out.push_back(image(prompt::blank_image(recipe_.prompt.blank_image)));
  }
  return out;
}

}  // namespace tte::remote
