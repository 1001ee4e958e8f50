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

struct Frames {
  std::vector<at::Tensor> images;  // uint8 [height, width, 3] each, all of one size.
  Budget::Loan memory;             // Theirs.
  std::vector<int> indices;        // Their positions in the source.
  std::optional<double> source_fps;
  std::optional<double> sampled_fps;
};

// The indices of the frames to take, ascending, out of `total` with so many of them a second, where that is
// known: by the file, else by the input.
using Sample = std::function<std::vector<int>(int total, std::optional<double> source_fps)>;
// The size that frames are resized to.
using Fit = std::function<Size(Size frame, std::int64_t frames)>;

// Frames of one video: a file (frames and colours equal to those of torchcodec, transformers' default
// decoder), a folder of image files in natural order, or a list.
//
// Each frame is resized to fit(its size, number of frames) before the next one is decoded, so that no more
// than one is held in full; without `fit`, frames keep their size. Without `sample` all frames are taken.
//
// Throws InputError naming the file for anything that is not wholly decodable, for frames of
// differing sizes, and, before any frame is decoded, for more frames than the budget has memory for. Only
// where nothing in a file says how long it is may a cut one pass for a shorter one: an MPEG stream cut
// between two packets, a fragmented MP4 between two fragments, a live recording between two frames.
Frames read_video(const Video& video, Budget& budget, const Sample& sample = {}, const Fit& fit = {});
// Takes from `budget` what read_video would, without decoding a frame: for items whose videos are too much together.
// False for frames in files of their own, of which nothing is known before they are read.
[[nodiscard]] bool measure_video(const Video& video, Budget& budget, const Sample& sample = {},
                                 const Fit& fit = {});
// The video as an item of its own.
Frames read_video(const Video& video, const Sample& sample = {}, const MediaLimits& limits = {});

}  // namespace tte::media
