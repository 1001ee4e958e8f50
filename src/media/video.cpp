#include "media/video.h"

#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
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

// Takes the frames that a rule chooses from whatever can count and read frames.
class FrameTaker {
 public:
  FrameTaker(const Video& video, const FrameSampling& sampling, const std::string& item,
             const std::string& label, Budget& budget, const Fit& fit)
      : video_(video), sampling_(sampling), item_(item), label_(label), budget_(budget), fit_(fit) {}

  Frames from_images(const std::vector<Image>& images) {
    if (images.empty()) throw InputError(fmt::format("{} has no frames; give it at least one.", label_));
    if (images.size() > INT32_MAX)
      throw InputError(fmt::format("{} has too many frames ({}).", label_, images.size()));
    choose(static_cast<int>(images.size()), video_.source_fps);
    Size first;
    for (const int index : frames_.indices) {
      const at::Tensor image = decode_image(images[static_cast<std::size_t>(index)],
                                            fmt::format("{}, frame {}", item_, index), budget_);
      const Size size{image.size(0), image.size(1)};
      if (frames_.images.empty()) {
        first = size;
        begin(size);
      }
      if (size.height != first.height || size.width != first.width) {
        throw InputError(fmt::format(
            "{}: frame {} is {}x{} but frame {} is {}x{} (width x height); all frames of a video "
            "must have one size.",
            label_, index, size.width, size.height, frames_.indices.front(), first.width, first.height));
      }
      add(image);
    }
    return std::move(frames_);
  }

  Frames from_file(const fs::path& path) {
    VideoFile file(path, label_, budget_);
    choose(file.frame_count(), file.fps() > 0 ? std::optional(file.fps()) : video_.source_fps);
    begin({file.height(), file.width()});
    file.read(frames_.indices, [this](const at::Tensor& frame) { add(frame); });
    return std::move(frames_);
  }

 private:
  void choose(int total, std::optional<double> source_fps) {
    frames_.indices =
        sample_frames(total, source_fps, choose_rule(video_, sampling_, total, source_fps, item_), item_);
    frames_.source_fps = source_fps;
    if (source_fps) frames_.sampled_fps = static_cast<double>(frames_.indices.size()) / total * *source_fps;
  }

  // Before the first frame is kept: the memory of all.
  void begin(Size size) {
    const auto count = static_cast<std::int64_t>(frames_.indices.size());
    size_ = fit_ ? fit_(size, count) : size;
    const double bytes = 3.0 * static_cast<double>(size_.height) * static_cast<double>(size_.width) *
                         static_cast<double>(count);
    frames_.memory =
        budget_.borrow(bytes < 9e18 ? static_cast<std::int64_t>(bytes) : INT64_MAX,
                       fmt::format("{}, of which {} frames of {}x{} pixels (width x height) are taken,",
                                   label_, count, size_.width, size_.height));
    frames_.images.reserve(frames_.indices.size());
  }
  void add(const at::Tensor& frame) { frames_.images.push_back(resize(frame, size_)); }

  const Video& video_;
  const FrameSampling& sampling_;
  const std::string& item_;
  const std::string& label_;
  Budget& budget_;
  const Fit& fit_;
  Frames frames_;
  Size size_;
};

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

Frames read_video(const Video& video, const FrameSampling& sampling, const std::string& item, Budget& budget,
                  const Fit& fit) {
  check_positive(video.fps, "fps", item);
  check_positive(video.source_fps, "source_fps", item);
  std::string label = fmt::format("{}: the frame list", item);
  try {
    FrameTaker taker(video, sampling, item, label, budget, fit);
    if (const auto* images = std::get_if<std::vector<Image>>(&video.source))
      return taker.from_images(*images);
    const auto& path = std::get<fs::path>(video.source);
    label = fmt::format("{}: video \"{}\"", item, printable_path(path));
    std::error_code code;
    if (path.native().find('\0') == std::string::npos && fs::is_directory(path, code)) {
      return taker.from_images(list_folder(path, label));
    }
    return taker.from_file(path);
  } catch (const std::bad_alloc&) {
    throw InputError(fmt::format("{} needs more memory than there is; ask for fewer frames.", label));
  } catch (const c10::Error& error) {
    throw InputError(fmt::format("{} cannot be decoded: {}.", label, error.what_without_backtrace()));
  }
}

Frames read_video(const Video& video, const FrameSampling& sampling, const std::string& item,
                  const MediaLimits& limits) {
  Budget budget(limits);
  Frames frames = read_video(video, sampling, item, budget);
  frames.memory = {};  // The budget ends here.
  return frames;
}

}  // namespace tte::media
