// The frames that are taken of a video.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tte/input.h"

namespace tte::models {

// How many frames to take where a video itself does not say: by `fps` or by `num_frames`, or (neither set)
// all. What min_frames and max_frames bound is the family's rule.
struct FrameSampling {
  std::optional<double> fps = {};
  std::optional<int> num_frames = {};
  int min_frames = 1;
  int max_frames = std::numeric_limits<int>::max();
};

// The rule that holds for one video of `total` frames: its own fps / num_frames, else the recipe's. The recipe's takes
// all frames of a video that has too few, and its fps does not hold for folders and lists that do not say theirs
// (whoever made them has sampled those frames). Throws InputError for numbers that are not positive.
FrameSampling choose_rule(const Video& video, const FrameSampling& recipe, int temporal_patch_size, int total,
                          std::optional<double> source_fps);

// Indices of the frames to take out of `total`, in groups of temporal_patch_size, as transformers'
// Qwen2VLVideoProcessor.sample_frames gives them. At most one of `rule.fps` (needs source_fps) and `rule.num_frames`
// may be set; with neither, all are taken. Throws InputError where the reference fails: more frames asked for than
// there are, or none left.
std::vector<int> sample_frames(int total, std::optional<double> source_fps, const FrameSampling& rule,
                               int temporal_patch_size);

// The same as transformers' Qwen3VLVideoProcessor.sample_frames gives them: spread from the first frame to the
// last, in any number; more than there are repeat some. A source that does not say how many frames it has a
// second is taken to have kDefaultFps.
std::vector<int> sample_frames_evenly(int total, std::optional<double> source_fps, const FrameSampling& rule,
                                      int temporal_patch_size);

// What transformers assumes of a video that does not say.
inline constexpr double kDefaultFps = 24.0;

}  // namespace tte::models
