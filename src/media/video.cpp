#include "media/video.h"

#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <functional>
#include <new>
#include <string_view>
#include <system_error>

#include "media/file.h"
#include "media/video_file.h"
#include "tte/error.h"

namespace tte::media {
namespace {

namespace fs = std::filesystem;

// Python's round: halves to even.
std::int64_t round_half_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::array<std::string_view, 8> kKnown = {".jpg", ".jpeg", ".png", ".webp",
                                                             ".bmp", ".gif",  ".tif", ".tiff"};
  return std::find(kKnown.begin(), kKnown.end(), extension) != kKnown.end();
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// "frame9" before "frame10": runs of digits compare by value, whatever their length.
bool natural_less(std::string_view a, std::string_view b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i, ++j;
      continue;
    }
    const auto number = [](std::string_view text, std::size_t& at) {
      while (at < text.size() && text[at] == '0') ++at;
      const std::size_t begin = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      return text.substr(begin, at - begin);
    };
    const std::string_view x = number(a, i);
    const std::string_view y = number(b, j);
    if (x.size() != y.size()) return x.size() < y.size();
    if (x != y) return x < y;
  }
  if (i == a.size() && j == b.size()) return a < b;  // "1" and "01".
  return i == a.size();
}

std::vector<Image> list_folder(const fs::path& folder, const std::string& label) {
  std::error_code code;
  std::vector<fs::path> files;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const fs::path& path = it->path();
    if (is_image_name(path) && !path.filename().native().starts_with('.')) files.push_back(path);
  }
  if (code) throw InputError(fmt::format("{} cannot be listed: {}.", label, code.message()));
  if (files.empty()) {
    throw InputError(
        fmt::format("{} is a folder without image files (.jpg, .png, .webp, ...); a video given as a folder "
                    "holds its frames.",
                    label));
  }
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return natural_less(a.filename().native(), b.filename().native());
  });
  std::vector<Image> frames;
  frames.reserve(files.size());
  for (fs::path& file : files) frames.push_back({std::move(file), Alpha::kDrop});
  return frames;
}

// The rule that holds for one video: the input's own, checked, or the recipe's, fitted to what there is.
FrameSampling choose_rule(const Video& video, const FrameSampling& sampling, int total,
                          std::optional<double> source_fps, const std::string& item) {
  FrameSampling rule = sampling;
  if (video.fps || video.num_frames) {
    rule.fps = video.fps;
    rule.num_frames = video.num_frames;
    return rule;
  }
  if (rule.fps && rule.num_frames) {
    throw InputError(
        fmt::format("{}: the recipe samples video both by fps ({}) and by num_frames ({}); it must choose.",
                    item, *rule.fps, *rule.num_frames));
  }
  if (rule.fps && !source_fps) rule.fps.reset();
  if (total < rule.temporal_patch_size) rule.fps.reset();
  if (rule.num_frames && *rule.num_frames > total) rule.num_frames.reset();
  return rule;
}

void check_total(std::int64_t frames, std::int64_t height, std::int64_t width, const DecodeLimits& limits,
                 const std::string& label) {
  if (frames > limits.max_video_pixels / (height * width)) {
    throw InputError(
        fmt::format("{} would give {} frames of {}x{} pixels (width x height), over the limit of {} pixels "
                    "in all; ask for fewer frames (fps or num_frames), or raise the limit.",
                    label, frames, width, height, limits.max_video_pixels));
  }
}

// Takes the frames that `rule` chooses from anything that can count and read frames.
Frames take(const Video& video, const FrameSampling& sampling, int total, std::optional<double> source_fps,
            const std::string& item,
            const std::function<std::vector<at::Tensor>(const std::vector<int>&)>& read_frames) {
  Frames frames;
  const FrameSampling rule = choose_rule(video, sampling, total, source_fps, item);
  frames.indices = sample_frames(total, source_fps, rule, item);
  frames.images = read_frames(frames.indices);
  frames.source_fps = source_fps;
  if (source_fps) frames.sampled_fps = static_cast<double>(frames.indices.size()) / total * *source_fps;
  return frames;
}

Frames read_list(const std::vector<Image>& images, const Video& video, const FrameSampling& sampling,
                 const std::string& item, const std::string& label, const DecodeLimits& limits) {
  if (images.empty()) throw InputError(fmt::format("{} has no frames; give it at least one.", label));
  if (images.size() > INT32_MAX)
    throw InputError(fmt::format("{} has too many frames ({}).", label, images.size()));
  const auto read_frames = [&](const std::vector<int>& indices) {
    std::vector<at::Tensor> frames;
    frames.reserve(indices.size());
    for (const int index : indices) {
      frames.push_back(decode_image(images[static_cast<std::size_t>(index)],
                                    fmt::format("{}, frame {}", item, index), limits));
      const at::Tensor& first = frames.front();
      if (frames.size() == 1) {
        check_total(static_cast<std::int64_t>(indices.size()), first.size(0), first.size(1), limits, label);
      }
      if (frames.back().sizes() != first.sizes()) {
        throw InputError(
            fmt::format("{}: frame {} is {}x{} but frame {} is {}x{} (width x height); all frames of a video "
                        "must have one size.",
                        label, index, frames.back().size(1), frames.back().size(0), indices.front(),
                        first.size(1), first.size(0)));
      }
    }
    return frames;
  };
  return take(video, sampling, static_cast<int>(images.size()), video.source_fps, item, read_frames);
}

Frames read_file(const fs::path& path, const Video& video, const FrameSampling& sampling,
                 const std::string& item, const std::string& label, const DecodeLimits& limits) {
  VideoFile file(path, label, limits);
  const std::optional<double> fps = file.fps() > 0 ? std::optional(file.fps()) : video.source_fps;
  const auto read_frames = [&](const std::vector<int>& indices) {
    check_total(static_cast<std::int64_t>(indices.size()), file.height(), file.width(), limits, label);
    return file.read(indices);
  };
  return take(video, sampling, file.frame_count(), fps, item, read_frames);
}

void check_positive(const std::optional<double>& value, const char* name, const std::string& item) {
  if (value && (!std::isfinite(*value) || *value <= 0)) {
    throw InputError(fmt::format("{}: {} is {}, but it must be a positive number.", item, name, *value));
  }
}

}  // namespace

std::vector<int> sample_frames(int total, std::optional<double> source_fps, const FrameSampling& rule,
                               const std::string& item) {
  if (rule.fps && rule.num_frames) {
    throw InputError(
        fmt::format("{}: a video is sampled by fps ({}) or by num_frames ({}), not by both; give one.", item,
                    *rule.fps, *rule.num_frames));
  }
  check_positive(rule.fps, "fps", item);
  check_positive(source_fps, "source_fps", item);
  const double temporal = rule.temporal_patch_size;
  std::int64_t count = total;
  if (rule.num_frames) {
    count = round_half_even(*rule.num_frames / temporal) * rule.temporal_patch_size;
    if (count < 1) {
      throw InputError(
          fmt::format("{}: num_frames is {}, but this model reads frames in groups of {}; ask for at least "
                      "{}.",
                      item, *rule.num_frames, rule.temporal_patch_size, rule.temporal_patch_size));
    }
    if (count > total) {
      throw InputError(
          fmt::format("{}: num_frames is {} (rounded to a multiple of {}), but the video has {} frames; ask "
                      "for fewer.",
                      item, count, rule.temporal_patch_size, total));
    }
  } else if (rule.fps) {
    if (!source_fps) {
      throw InputError(
          fmt::format("{}: fps is {}, but the frames per second of the source are not known; give "
                      "source_fps, or ask for num_frames.",
                      item, *rule.fps));
    }
    const double most = std::floor(std::min(rule.max_frames, total) / temporal) * temporal;
    double wanted = total / *source_fps * *rule.fps;
    wanted =
        std::min({std::max(wanted, static_cast<double>(rule.min_frames)), most, static_cast<double>(total)});
    count = static_cast<std::int64_t>(std::floor(wanted / temporal)) * rule.temporal_patch_size;
    if (count < 1) {
      throw InputError(
          fmt::format("{}: sampling {} frames per second leaves none of the video's {} frames (they are "
                      "taken in groups of {}); take all frames, or ask for num_frames.",
                      item, *rule.fps, total, rule.temporal_patch_size));
    }
  }
  std::vector<int> indices;
  if (!rule.fps && !rule.num_frames) {
    for (int i = 0; i < total; ++i) indices.push_back(i);
    return indices;
  }
  // The reference's own operation in its own precision, so that rounding agrees.
  const double step = static_cast<double>(total) / static_cast<double>(count);
  const at::Tensor positions = at::arange(0, total, step, at::kFloat).to(at::kInt);
  const auto* data = positions.const_data_ptr<int>();
  for (std::int64_t i = 0; i < positions.numel(); ++i) {
    if (data[i] < total) indices.push_back(data[i]);
  }
  return indices;
}

Frames read_video(const Video& video, const FrameSampling& sampling, const std::string& item,
                  const DecodeLimits& limits) {
  check_positive(video.fps, "fps", item);
  check_positive(video.source_fps, "source_fps", item);
  std::string label = fmt::format("{}: the frame list", item);
  try {
    if (const auto* images = std::get_if<std::vector<Image>>(&video.source)) {
      return read_list(*images, video, sampling, item, label, limits);
    }
    const auto& path = std::get<fs::path>(video.source);
    label = fmt::format("{}: video \"{}\"", item, printable_path(path));
    std::error_code code;
    if (path.native().find('\0') == std::string::npos && fs::is_directory(path, code)) {
      return read_list(list_folder(path, label), video, sampling, item, label, limits);
    }
    return read_file(path, video, sampling, item, label, limits);
  } catch (const std::bad_alloc&) {
    throw InputError(fmt::format("{} needs more memory than there is; ask for fewer frames.", label));
  } catch (const c10::Error& error) {
    throw InputError(fmt::format("{} cannot be decoded: {}.", label, error.what_without_backtrace()));
  }
}

}  // namespace tte::media
