#include "media/exif.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <string_view>

#include "media/mat.h"

namespace tte::media {
namespace {

constexpr std::uint16_t kOrientationTag = 0x0112;

// Numbers of either byte order at checked offsets.
class TiffView {
 public:
  TiffView(Bytes bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  [[nodiscard]] bool holds(std::size_t offset, std::size_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }
  [[nodiscard]] std::uint32_t number(std::size_t offset, int size) const {
    std::uint32_t value = 0;
    for (int i = 0; i < size; ++i) {
      const int shift = 8 * (big_endian_ ? size - 1 - i : i);
      value |= static_cast<std::uint32_t>(bytes_[offset + i]) << shift;
    }
    return value;
  }

 private:
  Bytes bytes_;
  bool big_endian_;
};

bool starts_with(Bytes bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), bytes.begin(),
                    [](char a, auto b) { return static_cast<std::uint8_t>(a) == b; });
}

}  // namespace

int exif_orientation(Bytes exif) {
  using namespace std::string_view_literals;
  while (starts_with(exif, "Exif\0\0"sv)) exif = exif.subspan(6);
  const bool little = starts_with(exif, "II*\0"sv);
  const bool big = starts_with(exif, "MM\0*"sv);
  if (!little && !big) return 0;
  const TiffView view(exif, big);
  if (!view.holds(4, 4)) return 0;
  const std::size_t directory = view.number(4, 4);
  if (!view.holds(directory, 2)) return 0;
  const std::uint32_t count = view.number(directory, 2);
  int orientation = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::size_t entry = directory + 2 + 12 * static_cast<std::size_t>(i);
    if (!view.holds(entry, 12)) break;
    if (view.number(entry, 2) != kOrientationTag || view.number(entry + 4, 4) != 1) continue;
    switch (view.number(entry + 2, 2)) {  // The field's type; every unsigned one is seen in the wild.
      case 1:
        orientation = static_cast<int>(view.number(entry + 8, 1));
        break;
      case 3:
        orientation = static_cast<int>(view.number(entry + 8, 2));
        break;
      case 4:
        orientation = static_cast<int>(std::min(view.number(entry + 8, 4), 9U));
        break;
      default:
        break;
    }
  }
  return orientation;
}

int xmp_orientation(Bytes xmp) {
  const std::string_view text(reinterpret_cast<const char*>(xmp.data()), xmp.size());
  constexpr std::string_view kKey = "tiff:Orientation";
  for (auto at = text.find(kKey); at != std::string_view::npos; at = text.find(kKey, at + 1)) {
    std::string_view rest = text.substr(at + kKey.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with('>')) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 0;
}

int choose_orientation(Bytes exif, Bytes xmp) {
  int orientation = exif_orientation(exif);
  if (orientation == 0) orientation = xmp_orientation(xmp);
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

at::Tensor apply_orientation(const at::Tensor& pixels, int orientation) {
  if (orientation < 2 || orientation > 8) return pixels;
  const int rows = orientation < 5 ? 0 : 1;  // The dimension that becomes the rows.
  at::Tensor turned = at::empty({pixels.size(rows), pixels.size(1 - rows), pixels.size(2)}, at::kByte);
  const cv::Mat from = as_mat(pixels);
  const cv::Mat to = as_mat(turned);
  constexpr int kUpsideDown = 0, kMirrored = 1, kBoth = -1;
  switch (orientation) {
    case 2:
      cv::flip(from, to, kMirrored);
      break;
    case 3:
      cv::flip(from, to, kBoth);
      break;
    case 4:
      cv::flip(from, to, kUpsideDown);
      break;
    case 5:
      cv::transpose(from, to);
      break;
    case 6:
      cv::rotate(from, to, cv::ROTATE_90_CLOCKWISE);
      break;
    case 7:
      cv::transpose(from, to);
      cv::flip(to, to, kBoth);
      break;
    default:
      cv::rotate(from, to, cv::ROTATE_90_COUNTERCLOCKWISE);
      break;
  }
  return turned;
}

}  // namespace tte::media
