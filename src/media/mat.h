// OpenCV on the pixels of a tensor. Internal to media/.
//
// OpenCV turns images, and moves, scales and looks up channels. It decodes none:
// - cv::imdecode gives a cut baseline JPEG as if it were whole (the last rows repeated, or never written) and drops
//   alpha such that hidden colours show; CMYK and 16 bits a channel come out otherwise than promised; it heeds the
//   masks of some bitmaps only, and reads no GIF before OpenCV 4.11.
// - cv::VideoCapture also opens playlists, addresses and GStreamer pipelines, counts frames by what the header says,
//   and is up to 79 levels away from the reference's colours on 10-bit video.
#pragma once

#include <ATen/core/Tensor.h>

#include <opencv2/core.hpp>
#include <vector>

namespace tte::media {

// The pixels of a contiguous uint8 [height, width, channels], not copied.
cv::Mat as_mat(const at::Tensor& pixels);

// Channel order[k] of every pixel of `from` becomes channel k of `to`, which has the same size. This is
// cv::mixChannels because cv::cvtColor would start OpenCV's threads: the images of a batch are decoded in
// parallel as it is.
void pick_channels(const cv::Mat& from, cv::Mat to, const std::vector<int>& order);
// The channels of all matrices of `from` are counted one after the other.
void pick_channels(const std::vector<cv::Mat>& from, cv::Mat to, const std::vector<int>& order);

}  // namespace tte::media
