// A video file: its frames by index, through FFmpeg's libraries. Internal to media/.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "media/image.h"

namespace tte::media {

// The counts and times come from the packets themselves, not from headers that may lie: frame k is the k-th
// in order of presentation, which is also how torchcodec (exact mode), transformers' default decoder, counts.
class VideoFile {
 public:
  // Throws InputError, starting with `label`, for whatever is not a video file with at least one whole frame.
  // `budget` outlives it.
  VideoFile(const std::filesystem::path& path, const std::string& label, Budget& budget);
  ~VideoFile();
  VideoFile(const VideoFile&) = delete;
  VideoFile& operator=(const VideoFile&) = delete;

  [[nodiscard]] int frame_count() const;
  // Frames per second over the whole stream; 0 when the file does not say.
  [[nodiscard]] double fps() const;
  // Upright size.
  [[nodiscard]] std::int64_t height() const;
  [[nodiscard]] std::int64_t width() const;

  // Pixels of the frames that are decoded to read those at `indices`: where a file cannot be entered in its middle,
  // these are more than the frames.
  [[nodiscard]] std::int64_t work(const std::vector<int>& indices) const;
  // Calls on_frame() with the frames at `indices` (ascending, repeats allowed, each below frame_count()), one after
  // the other: uint8 [height, width, 3] RGB, upright. Frames in between are skipped by seeking where the file
  // allows it. Throws InputError before the first is decoded where the budget does not have the work of all.
  void read(const std::vector<int>& indices, const std::function<void(const at::Tensor&)>& on_frame);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tte::media
