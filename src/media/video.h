// Video files, frame folders and frame lists into frames.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "media/image.h"
#include "media/patches.h"
#include "tte/input.h"

namespace tte::media {

// How many frames to take when the input itself does not say: by `fps` or by `num_frames`, or (neither set)
// all.
struct FrameSampling {
  std::optional<double> fps;
  std::optional<int> num_frames;
  int min_frames = 4;
  int max_frames = 768;
  int temporal_patch_size = 2;  // Counts are rounded to multiples of it.
};

struct Frames {
  std::vector<at::Tensor> images;  // uint8 [height, width, 3] each, all of one size.
  Budget::Loan memory;             // Theirs.
  std::vector<int> indices;        // Their positions in the source.
  std::optional<double> source_fps;
  std::optional<double> sampled_fps;
};

// Indices of the frames to take out of `total`, as transformers' Qwen2VLVideoProcessor.sample_frames gives
// them. Exactly one of `rule.fps` (needs source_fps) and `rule.num_frames` may be set; with neither, all are
// taken. Throws InputError naming `item` where the reference fails: more frames asked for than there are, or
// none left.
std::vector<int> sample_frames(int total, std::optional<double> source_fps, const FrameSampling& rule,
                               const std::string& item);

// Frames of one video: a file (frames and colours equal to those of torchcodec, transformers' default
// decoder), a folder of image files in natural order, or a list. The input's own fps / num_frames win over
// `sampling`, the recipe's rule. A recipe's rule asks for at most what there is: it takes all frames of a
// video that is too short, and its fps leaves alone folders and lists that do not say theirs (those frames
// were sampled by whoever made them).
//
// Each frame is resized to fit(its size, number of frames) before the next one is decoded, so that no more
// than one is held in full; without `fit`, frames keep their size.
//
// Throws InputError naming `item` and the file for anything that is not wholly decodable, for frames of
// differing sizes, and, before any frame is decoded, for more frames than the budget has memory for. Only
// where nothing in a file says how long it is may a cut one pass for a shorter one: an MPEG stream cut
// between two packets, a fragmented MP4 between two fragments, a live recording between two frames.
using Fit = std::function<Size(Size frame, std::int64_t frames)>;
Frames read_video(const Video& video, const FrameSampling& sampling, const std::string& item, Budget& budget,
                  const Fit& fit = {});
// The video as an item of its own.
Frames read_video(const Video& video, const FrameSampling& sampling, const std::string& item,
                  const MediaLimits& limits = {});

}  // namespace tte::media
