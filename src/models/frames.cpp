#include "models/frames.h"

#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "tte/error.h"

namespace tte::models {
namespace {

constexpr std::int64_t kMostFrames = 100'000;

// Python's round: halves to even.
std::int64_t round_half_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

void check_positive(const std::optional<double>& value, const char* name) {
  if (value && (!std::isfinite(*value) || *value <= 0)) {
    throw InputError(fmt::format("{} is {}, but it must be a positive number.", name, *value));
  }
}

void check_rule(std::optional<double> source_fps, const FrameSampling& rule) {
  if (rule.fps && rule.num_frames) {
    throw InputError(
        fmt::format("a video is sampled by fps ({}) or by num_frames ({}), not by both; give one.", *rule.fps,
                    *rule.num_frames));
  }
  check_positive(rule.fps, "fps");
  check_positive(source_fps, "source_fps");
}

std::vector<int> all_frames(int total) {
  std::vector<int> indices(static_cast<std::size_t>(total));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

}  // namespace

FrameSampling choose_rule(const Video& video, const FrameSampling& recipe, int temporal_patch_size, int total,
                          std::optional<double> source_fps) {
  check_positive(video.fps, "fps");
  check_positive(video.source_fps, "source_fps");
  FrameSampling rule = recipe;
  if (video.fps || video.num_frames) {
    rule.fps = video.fps;
    rule.num_frames = video.num_frames;
    return rule;
  }
  if (rule.fps && rule.num_frames) {
    throw InputError(
        fmt::format("the recipe samples video both by fps ({}) and by num_frames ({}); it must choose.",
                    *rule.fps, *rule.num_frames));
  }
  if (rule.fps && !source_fps) rule.fps.reset();
  if (total < temporal_patch_size) rule.fps.reset();
  if (rule.num_frames && *rule.num_frames > total) rule.num_frames.reset();
  return rule;
}

std::vector<int> sample_frames(int total, std::optional<double> source_fps, const FrameSampling& rule,
                               int temporal_patch_size) {
  check_rule(source_fps, rule);
  if (!rule.fps && !rule.num_frames) return all_frames(total);
  if (total < temporal_patch_size) {
    throw InputError(fmt::format(
        "the video has {} of the {} frames that this model reads together, so none can be chosen; leave "
        "fps and num_frames out, or give it as an image.",
        total, temporal_patch_size));
  }
  const double temporal = temporal_patch_size;
  std::int64_t count = total;
  if (rule.num_frames) {
    count = round_half_even(*rule.num_frames / temporal) * temporal_patch_size;
    if (count < 1) {
      throw InputError(
          fmt::format("num_frames is {}, but this model reads frames in groups of {}; ask for at least "
                      "{}.",
                      *rule.num_frames, temporal_patch_size, temporal_patch_size));
    }
    if (count > total) {
      throw InputError(
          fmt::format("num_frames is {} (rounded to a multiple of {}), but the video has {} frames; ask "
                      "for fewer.",
                      count, temporal_patch_size, total));
    }
  } else if (rule.fps) {
    if (!source_fps) {
      throw InputError(
          fmt::format("fps is {}, but the frames per second of the source are not known; give "
                      "source_fps, or ask for num_frames.",
                      *rule.fps));
    }
    const double most = std::floor(std::min(rule.max_frames, total) / temporal) * temporal;
    double wanted = total / *source_fps * *rule.fps;
    wanted =
        std::min({std::max(wanted, static_cast<double>(rule.min_frames)), most, static_cast<double>(total)});
    count = static_cast<std::int64_t>(std::floor(wanted / temporal)) * temporal_patch_size;
    if (count < 1) {
      throw InputError(
          fmt::format("sampling {} frames per second leaves none of the video's {} frames (they are "
                      "taken in groups of {}); take all frames, or ask for num_frames.",
                      *rule.fps, total, temporal_patch_size));
    }
  }
  std::vector<int> indices;
  // The reference's own operation in its own precision, so that rounding agrees.
  const double step = static_cast<double>(total) / static_cast<double>(count);
  const at::Tensor positions = at::arange(0, total, step, at::kFloat).to(at::kInt);
  const auto* data = positions.const_data_ptr<int>();
  for (std::int64_t i = 0; i < positions.numel(); ++i) {
    if (data[i] < total) indices.push_back(data[i]);
  }
  return indices;
}

std::vector<int> sample_frames_evenly(int total, std::optional<double> source_fps, const FrameSampling& rule,
                                      int /*temporal_patch_size*/) {
  check_rule(source_fps, rule);
  if (!rule.fps && !rule.num_frames) return all_frames(total);
  std::int64_t count = 0;
  if (rule.num_frames) {
    count = *rule.num_frames;
  } else {
    const double wanted = total / source_fps.value_or(kDefaultFps) * *rule.fps;
    const double most = std::min(rule.max_frames, total);
    count = static_cast<std::int64_t>(
        std::min(std::max(std::floor(wanted), static_cast<double>(rule.min_frames)), most));
  }
  if (count < 1 || count > kMostFrames) {
    throw InputError(fmt::format("{} frames of a video are asked for; ask for 1 to {}.", count, kMostFrames));
  }
  // numpy's linspace, and its rounding of halves to even.
  std::vector<int> indices;
  const double step =
      static_cast<double>(total - 1) / static_cast<double>(std::max<std::int64_t>(count - 1, 1));
  indices.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    indices.push_back(static_cast<int>(round_half_even(static_cast<double>(i) * step)));
  if (count > 1) indices.back() = total - 1;
  return indices;
}

}  // namespace tte::models
