#include "models/qwen/sizes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "tte/error.h"

namespace tte::models::qwen {

namespace {

struct Area {
  double min, max;            // Pixels.
  double least_side = 0;      // Before the limits count.
  double frames = 1;          // That share the pixels,
  double rounded_frames = 1;  // and how many there are in whole temporal patches.
};

void check_shape(Size size) {
  if (size.height < 1 || size.width < 1) {
    throw InputError(
        fmt::format("an image of {}x{} (width x height) has no pixels.", size.width, size.height));
  }
  const auto height = static_cast<double>(size.height);
  const auto width = static_cast<double>(size.width);
  const double aspect = std::max(height, width) / std::min(height, width);
  if (aspect > 200) {
    throw InputError(fmt::format(
        "{}x{} (width x height) is an aspect ratio of {:.7g}, over the limit of 200; crop or split it.",
        size.width, size.height, aspect));
  }
}

// Sides of multiples of `factor` whose area is as `area` says.
Size fit(Size size, double factor, const Area& area) {
  const auto height = static_cast<double>(size.height);
  const auto width = static_cast<double>(size.width);
  // nearbyint rounds halves to even, as Python's round does.
  double h = std::max(area.least_side, std::nearbyint(height / factor) * factor);
  double w = std::max(area.least_side, std::nearbyint(width / factor) * factor);
  if (area.rounded_frames * h * w > area.max) {
    const double beta = std::sqrt(area.frames * height * width / area.max);
    h = std::max(factor, std::floor(height / beta / factor) * factor);
    w = std::max(factor, std::floor(width / beta / factor) * factor);
  } else if (area.rounded_frames * h * w < area.min) {
    const double beta = std::sqrt(area.min / (area.frames * height * width));
    h = std::ceil(height * beta / factor) * factor;
    w = std::ceil(width * beta / factor) * factor;
  }
  return {static_cast<std::int64_t>(h), static_cast<std::int64_t>(w)};
}

Area limits(const VisualSpec& spec) {
  return {.min = static_cast<double>(spec.min_pixels), .max = static_cast<double>(spec.max_pixels)};
}

}  // namespace

Size smart_resize(Size size, const VisualSpec& spec) {
  check_shape(size);
  return fit(size, spec.factor(), limits(spec));
}

Size utils_image_size(Size size, const VisualSpec& spec) {
  check_shape(size);
  Area area = limits(spec);
  area.least_side = spec.factor();
  return fit(size, spec.factor(), area);
}

Size image_size(Size size, const VisualSpec& spec) {
  if (spec.do_resize) return smart_resize(spec.aim.value_or(size), spec);
  if (size.height % spec.factor() != 0 || size.width % spec.factor() != 0) {
    throw InputError(
        fmt::format("an image of {}x{} (width x height) is not a multiple of {} pixels on each side, "
                    "and this model's processor does not resize (\"do_resize\": false); resize it first.",
                    size.width, size.height, spec.factor()));
  }
  return size;
}

Size video_size(Size frame, std::int64_t frames, const VisualSpec& spec) {
  VisualSpec frame_spec = spec;
  if (spec.cap_pixels_per_frame) {
    const double factor = spec.factor();
    const auto budget =
        static_cast<std::int64_t>(static_cast<double>(spec.max_video_tokens) * factor * factor * 0.9);
    const std::int64_t share = budget * spec.patches.temporal_patch_size / frames;
    const auto floor = static_cast<std::int64_t>(static_cast<double>(spec.min_pixels) * 1.05);
    frame_spec.max_pixels = std::max(std::min(spec.max_pixels, share), floor);
  }
  return image_size(frame, frame_spec);
}

Size clip_size(Size frame, std::int64_t frames, const VisualSpec& spec) {
  if (!spec.do_resize) return image_size(frame, spec);
  const int temporal = spec.patches.temporal_patch_size;
  if (frames < temporal) {
    throw InputError(
        fmt::format("a video of which {} frame{} taken, but this model reads frames in groups of {}: take "
                    "more, or give it as an image.",
                    frames, frames == 1 ? " is" : "s are", temporal));
  }
  const double factor = spec.factor();
  Size size = spec.aim.value_or(frame);
  const double shortest = static_cast<double>(std::min(size.height, size.width));
  if (shortest >= 1 && shortest < factor) {
    const double scale =
        std::max(factor / static_cast<double>(size.height), factor / static_cast<double>(size.width));
    const auto scaled = [scale](std::int64_t side) {
      return static_cast<std::int64_t>(static_cast<double>(side) * scale);
    };
    size = {scaled(size.height), scaled(size.width)};
  }
  check_shape(size);
  Area area = limits(spec);
  area.frames = static_cast<double>(frames);
  area.rounded_frames = std::nearbyint(area.frames / temporal) * temporal;
  if (spec.cap_pixels_per_frame) {
    const std::int64_t cap = spec.max_video_tokens * spec.factor() * spec.factor();
    const auto floor = static_cast<std::int64_t>(static_cast<double>(spec.min_pixels) * 1.05);
    area.max = static_cast<double>(std::max(std::min(cap, spec.max_pixels / frames), floor) * frames);
  }
  return fit(size, factor, area);
}

Size utils_size(Size frame, std::int64_t frames, const VisualSpec& spec, double total_pixels) {
  if (!spec.do_resize) return image_size(frame, spec);
  const Size size = spec.aim.value_or(frame);
  check_shape(size);
  const double temporal = spec.patches.temporal_patch_size;
  const double padded = std::ceil(static_cast<double>(frames) / temporal) * temporal;
  const double floor = std::floor(static_cast<double>(spec.min_pixels) * 1.05);
  const double factor = spec.factor();
  Area area = limits(spec);
  area.least_side = factor;
  area.max =
      std::min(area.max, std::max(std::min(768 * factor * factor, total_pixels / padded * temporal), floor));
  return fit(size, factor, area);
}

VisualSpec with_resize(const VisualSpec& spec, const Resize& wanted) {
  const auto check = [&](const char* name, const std::optional<std::int64_t>& value) {
    if (value && (*value < 1 || *value > kMaxImagePixels)) {
      throw InputError(fmt::format("{} is {}, but it must be from 1 to {}.", name, *value, kMaxImagePixels));
    }
  };
  check("min_pixels", wanted.min_pixels);
  check("max_pixels", wanted.max_pixels);
  check("resized_height", wanted.height);
  check("resized_width", wanted.width);
  VisualSpec out = spec;
  if (wanted.min_pixels) {
    out.min_pixels = *wanted.min_pixels;
    out.max_pixels = std::max(out.max_pixels, out.min_pixels);
  }
  if (wanted.max_pixels) {
    out.max_pixels = *wanted.max_pixels;
    if (wanted.min_pixels && *wanted.min_pixels > out.max_pixels) {
      throw InputError(fmt::format("min_pixels is {}, but it must be at most max_pixels ({}).",
                                   *wanted.min_pixels, out.max_pixels));
    }
    out.min_pixels = std::min(out.min_pixels, out.max_pixels);
  }
  if (wanted.height.has_value() != wanted.width.has_value()) {
    throw InputError("resized_height and resized_width go together: give both.");
  }
  if (wanted.height) out.aim = Size{*wanted.height, *wanted.width};
  const bool asked = wanted.min_pixels || wanted.max_pixels || wanted.height;
  if (asked && !spec.do_resize) {
    throw InputError(
        "a size is asked for, but this model's processor does not resize (\"do_resize\": "
        "false): leave it "
        "out.");
  }
  return out;
}

}  // namespace tte::models::qwen
