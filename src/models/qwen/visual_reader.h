// Images and videos into patches, as transformers' Qwen processors make them.
#pragma once

#include "models/preprocessor.h"
#include "models/qwen/frames.h"
#include "models/qwen/processor_config.h"
#include "models/qwen/sizes.h"

namespace tte::models::qwen {

// What differs between the generations.
struct VideoRules {
  decltype(&qwen::sample_frames) sample_frames = &qwen::sample_frames;
  decltype(&qwen::video_size) size = &qwen::video_size;
};

class QwenVisualReader final : public VisualReader {
 public:
  // Throws ModelError for limits of the recipe and the files that exclude each other.
  QwenVisualReader(const VisualSpecs& files, const VisualOptions& recipe, VideoRules rules = {});
  [[nodiscard]] std::shared_ptr<const Visual> image(const Image& image, media::Budget& budget) const override;
  [[nodiscard]] std::shared_ptr<const Visual> video(const Video& video, media::Budget& budget) const override;
  [[nodiscard]] base::Digest signature() const override;

 private:
  VisualSpec image_, video_;
  FrameSampling sampling_;
  VideoRules rules_;
};

}  // namespace tte::models::qwen
