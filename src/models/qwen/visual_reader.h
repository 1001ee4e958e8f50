// Images and videos into patches, as transformers' Qwen processors make them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "media/video.h"
#include "models/frames.h"
#include "models/preprocessor.h"
#include "models/qwen/processor_config.h"
#include "models/qwen/sizes.h"

namespace tte::models::qwen {

// What differs between the generations.
struct VideoRules {
  decltype(&models::sample_frames) sample_frames = &models::sample_frames;
  decltype(&qwen::video_size) size = &qwen::video_size;
};
inline constexpr VideoRules kQwen3VideoRules = {&sample_frames_evenly, &clip_size};

class QwenVisualReader final : public VisualReader {
 public:
  // Throws ModelError for limits of the recipe and the files that exclude each other.
  QwenVisualReader(const VisualSpecs& files, const VisualOptions& recipe, VideoRules rules = {});
  [[nodiscard]] std::shared_ptr<const Visual> image(const Image& image, media::Budget& budget) const override;
  [[nodiscard]] std::shared_ptr<const Visual> video(const Video& video, media::Budget& budget) const override;
  [[nodiscard]] Visuals frame_images(const Video& video, const std::vector<std::int64_t>& places,
                                     const VisualOptions::Limits& area, media::Budget& budget) const override;
  [[nodiscard]] bool measure_video(const Video& video, media::Budget& budget) const override;
  [[nodiscard]] std::int64_t image_bytes(media::Size size, const Resize& wanted) const override;
  [[nodiscard]] base::Digest signature() const override;

 private:
  // How media/ reads a video: which frames, and their size.
  struct Reading {
    media::Sample sample;
    media::Fit fit;
  };
  [[nodiscard]] Reading reading(const Video& video, const VisualSpec& spec, media::Budget& budget) const;
  // How images are resized: by `first`, where there is one, and then by `last`.
  struct Stages {
    std::optional<VisualSpec> first;
    VisualSpec last;
  };
  // The sizes that an image is resized to, one after the other.
  [[nodiscard]] std::vector<Size> image_sizes(Size image, const Stages& stages) const;
  // An image of uint8 [height, width, 3] pixels.
  [[nodiscard]] std::shared_ptr<const Visual> image_of(at::Tensor pixels, const Stages& stages,
                                                       media::Budget& budget) const;
  // The frames to take of `total`, and the size of each.
  [[nodiscard]] FrameSampling choose(const Video& video, int total, std::optional<double> source_fps) const;
  [[nodiscard]] Size size(Size frame, std::int64_t frames, const VisualSpec& spec) const;

  std::string recipe_;  // Its name, for errors.
  VisualSpec image_, video_;
  std::optional<VisualSpec> first_;  // How images are resized before the processor sees them.
  int min_side_, small_side_;
  FrameSampling sampling_;
  bool family_samples_;                 // sampling_ is the family's own, not the recipe's.
  std::optional<double> utils_pixels_;  // The limit on all frames together, where qwen-vl-utils' rule holds.
  VideoRules rules_;
};

}  // namespace tte::models::qwen
