// The frames that are taken of a video.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/preprocessor.h"
#include "tte/input.h"

namespace tte::models {

// The rule that holds for one video of `total` frames: its own fps / num_frames, else the recipe's, which asks
// for at most what there is: it takes all frames of a video that is too short, and its fps leaves alone
// folders and lists that do not say theirs (those frames were sampled by whoever made them). Throws InputError
// for numbers that are not positive.
FrameSampling choose_rule(const Video& video, const FrameSampling& recipe, int temporal_patch_size, int total,
                          std::optional<double> source_fps);

// Indices of the frames to take out of `total`, in groups of temporal_patch_size, as transformers'
// Qwen2VLVideoProcessor.sample_frames gives them. Exactly one of `rule.fps` (needs source_fps) and
// `rule.num_frames` may be set; with neither, all are taken. Throws InputError where the
// reference fails: more frames asked for than there are, or none left.
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
