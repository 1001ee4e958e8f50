// Video files, frame folders and frame lists into frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "media/image.h"
#include "tte/input.h"

namespace tte::media {

// How many frames to take when the input itself does not say.
struct FrameSampling {
  std::optional<double> fps;
  std::optional<int> num_frames;
  int min_frames = 4;
  int max_frames = 768;
};

struct Frames {
  std::vector<at::Tensor> images;  // uint8 [height, width, 3] each, all of one size.
  std::vector<int> indices;        // Their positions in the source.
  std::optional<double> source_fps;
  std::optional<double> sampled_fps;
};

// Frames of one video. `sampling` is the recipe's rule; the input's own fps / num_frames win over it.
// Index rules are those of transformers' Qwen2VLVideoProcessor.sample_frames.
Frames read_video(const Video& video, const FrameSampling& sampling, const std::string& item,
                  const DecodeLimits& limits = {});

}  // namespace tte::media
