#include "media/video.h"

#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <new>
#include <numeric>
#include <string_view>
#include <system_error>

#include "base/plain_error.h"
#include "media/file.h"
#include "media/video_file.h"
#include "tte/error.h"

namespace tte::media {
namespace {

namespace fs = std::filesystem;

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kImageSuffixes.begin(), kImageSuffixes.end(), extension) != kImageSuffixes.end();
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

// Takes the frames that `sample` chooses from whatever can count and read frames.
class FrameTaker {
 public:
  FrameTaker(const Video& video, const std::string& label, Budget& budget, const Sample& sample,
             const Fit& fit)
      : video_(video), label_(label), budget_(budget), sample_(sample), fit_(fit) {}

  Frames from_images(const std::vector<Image>& images) {
    if (images.empty()) throw InputError(fmt::format("{} has no frames; give it at least one.", label_));
    if (images.size() > INT32_MAX)
      throw InputError(fmt::format("{} has too many frames ({}).", label_, images.size()));
    choose(static_cast<int>(images.size()), video_.source_fps);
    Size first;
    for (const int index : frames_.indices) {
      const at::Tensor image =
          decode_image(images[static_cast<std::size_t>(index)], budget_, fmt::format("frame {}: ", index));
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
    choose(file);
    begin({file.height(), file.width()});
    file.read(frames_.indices, [this](const at::Tensor& frame) { add(frame); });
    return std::move(frames_);
  }

  void measure(const fs::path& path) {
    const VideoFile file(path, label_, budget_);
    choose(file);
    reserve({file.height(), file.width()});
    budget_.work(file.work(frames_.indices), label_);
  }

 private:
  void choose(const VideoFile& file) {
    choose(file.frame_count(), file.fps() > 0 ? std::optional(file.fps()) : video_.source_fps);
  }

  void choose(int total, std::optional<double> source_fps) {
    if (sample_) {
      frames_.indices = sample_(total, source_fps);
    } else {
      frames_.indices.resize(static_cast<std::size_t>(total));
      std::iota(frames_.indices.begin(), frames_.indices.end(), 0);
    }
    frames_.source_fps = source_fps;
    if (source_fps) frames_.sampled_fps = static_cast<double>(frames_.indices.size()) / total * *source_fps;
  }

  // Before the first frame is kept: the memory of all.
  void begin(Size size) {
    reserve(size);
    const auto count = static_cast<std::int64_t>(frames_.indices.size());
    frames_.images.reserve(frames_.indices.size());
    kept_ = at::empty({count, size_.height, size_.width, 3}, at::kByte);
  }
  void reserve(Size size) {
    const auto count = static_cast<std::int64_t>(frames_.indices.size());
    size_ = fit_ ? fit_(size, count) : size;
    const double bytes = 3.0 * static_cast<double>(size_.height) * static_cast<double>(size_.width) *
                         static_cast<double>(count);
    frames_.memory =
        budget_.borrow(bytes < 9e18 ? static_cast<std::int64_t>(bytes) : INT64_MAX,
                       fmt::format("{}, of which {} frames of {}x{} pixels (width x height) are taken,",
                                   label_, count, size_.width, size_.height));
  }
  // Into one block: blocks of their own would lie between those that decoders free, and the process would keep
  // all of these.
  void add(const at::Tensor& frame) {
    frames_.images.push_back(kept_[static_cast<std::int64_t>(frames_.images.size())]);
    frames_.images.back().copy_(resize(frame, size_));
  }

  const Video& video_;
  const std::string& label_;
  Budget& budget_;
  const Sample& sample_;
  const Fit& fit_;
  Frames frames_;
  Size size_;
  at::Tensor kept_;  // uint8 [frames, height, width, 3]
};

}  // namespace

Frames read_video(const Video& video, Budget& budget, const Sample& sample, const Fit& fit) {
  std::string label = "the frame list";
  try {
    FrameTaker taker(video, label, budget, sample, fit);
    if (const auto* images = std::get_if<std::vector<Image>>(&video.source))
      return taker.from_images(*images);
    const auto& path = std::get<fs::path>(video.source);
    label = label_of_file("video", path);
    std::error_code code;
    if (path.native().find('\0') == std::string::npos && fs::is_directory(path, code)) {
      return taker.from_images(list_folder(path, label));
    }
    return taker.from_file(path);
  } catch (const std::bad_alloc&) {
    throw InputError(fmt::format("{} needs more memory than there is; ask for fewer frames.", label));
  } catch (const c10::Error& error) {
    if (base::is_out_of_memory(error)) {
      throw InputError(fmt::format("{} needs more memory than there is; ask for fewer frames.", label));
    }
    throw InputError(fmt::format("{} cannot be decoded: {}.", label, error.what_without_backtrace()));
  }
}

bool measure_video(const Video& video, Budget& budget, const Sample& sample, const Fit& fit) {
  const auto* path = std::get_if<fs::path>(&video.source);
  std::error_code code;
  if (path == nullptr || path->native().find('\0') != std::string::npos || fs::is_directory(*path, code))
    return false;
  const std::string label = label_of_file("video", *path);
  FrameTaker(video, label, budget, sample, fit).measure(*path);
  return true;
}

Frames read_video(const Video& video, const Sample& sample, const MediaLimits& limits) {
  Budget budget(limits);
  Frames frames = read_video(video, budget, sample);
  frames.memory = {};  // The budget ends here.
  return frames;
}

}  // namespace tte::media
