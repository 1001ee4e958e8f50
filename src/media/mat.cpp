#include "media/mat.h"

#include <c10/util/Exception.h>

#include <utility>

namespace tte::media {

cv::Mat as_mat(const at::Tensor& pixels) {
  TORCH_INTERNAL_ASSERT(pixels.is_contiguous() && pixels.scalar_type() == at::kByte && pixels.dim() == 3);
  return {static_cast<int>(pixels.size(0)), static_cast<int>(pixels.size(1)),
          CV_8UC(static_cast<int>(pixels.size(2))),
          const_cast<std::uint8_t*>(pixels.const_data_ptr<std::uint8_t>())};
}

void pick_channels(const std::vector<cv::Mat>& from, cv::Mat to, const std::vector<int>& order) {
  std::vector<int> pairs;
  for (const int channel : order) pairs.insert(pairs.end(), {channel, static_cast<int>(pairs.size() / 2)});
  cv::mixChannels(from.data(), from.size(), &to, 1, pairs.data(), order.size());
}

void pick_channels(const cv::Mat& from, cv::Mat to, const std::vector<int>& order) {
  pick_channels(std::vector<cv::Mat>{from}, std::move(to), order);
}

}  // namespace tte::media
