#include "media/exif.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>
#include <cmath>
#include <string_view>

#include "media/mat.h"

namespace tte::media {
namespace {

constexpr std::uint16_t kOrientationTag = 0x0112;

// Bytes of one value of each type that a field may have; 0: there is no such type.
constexpr std::array<std::uint8_t, 17> kTypeSizes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};

// Numbers of either byte order at checked offsets.
class TiffView {
 public:
  TiffView(Bytes bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }
  [[nodiscard]] bool holds(std::uint64_t offset, std::uint64_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }
  [[nodiscard]] std::uint64_t number(std::uint64_t offset, std::uint64_t size) const {
    std::uint64_t value = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      const std::uint64_t shift = 8 * (big_endian_ ? size - 1 - i : i);
      value |= std::uint64_t{bytes_[static_cast<std::size_t>(offset + i)]} << shift;
    }
    return value;
  }

 private:
  Bytes bytes_;
  bool big_endian_;
};

// 1 to 8, or 0. Bytes and text are no numbers to Pillow.
int orientation_of(const TiffView& view, std::uint64_t type, std::uint64_t at) {
  const auto exactly = [](double value) {
    return value >= 1 && value <= 8 && value == std::trunc(value) ? value : 0;
  };
  const auto bits = static_cast<std::uint32_t>(view.number(at, std::min<std::uint64_t>(kTypeSizes[type], 4)));
  double value = 0;
  switch (type) {
    case 5:
      value = static_cast<double>(bits) / static_cast<double>(view.number(at + 4, 4));
      break;
    case 10:
      value = static_cast<double>(static_cast<std::int32_t>(bits)) /
              static_cast<double>(static_cast<std::int32_t>(view.number(at + 4, 4)));
      break;
    case 11:
      value = std::bit_cast<float>(bits);
      break;
    case 12:
      value = std::bit_cast<double>(view.number(at, 8));
      break;
    case 1:
    case 2:
    case 7:
      break;
    default:  // Integers; negative ones are large ones here.
      value = static_cast<double>(view.number(at, kTypeSizes[type]));
      break;
  }
  return static_cast<int>(exactly(value));
}

// As Pillow, fields are read in their order, up to the first whose values lie outside, and one is passed over whose
// values are more than there are bytes in all.
std::optional<int> find_orientation(const TiffView& view, std::uint64_t directory, bool wide) {
  const std::uint64_t count_size = wide ? 8 : 2, offset_size = wide ? 8 : 4;
  if (!view.holds(directory, count_size)) return std::nullopt;
  std::uint64_t left = view.number(directory, count_size);
  std::bitset<1 << 16> read;
  std::uint64_t total = 0;
  const std::uint64_t step = 4 + 2 * offset_size;
  for (std::uint64_t entry = directory + count_size; left > 0 && view.holds(entry, step);
       --left, entry += step) {
    const auto tag = static_cast<std::size_t>(view.number(entry, 2));
    const std::uint64_t type = view.number(entry + 2, 2);
    const std::uint64_t count = view.number(entry + 4, offset_size);
    if (read[tag] || type >= kTypeSizes.size() || kTypeSizes[type] == 0 || count == 0) continue;
    std::uint64_t at = entry + 4 + offset_size;
    if (count > offset_size / kTypeSizes[type]) {
      at = view.number(at, offset_size);
      total += std::min(count, view.size() + 1) * kTypeSizes[type];
      if (total > view.size()) continue;
      if (!view.holds(at, count * kTypeSizes[type])) return std::nullopt;
    }
    if (tag == kOrientationTag) return orientation_of(view, type, at);
    read[tag] = true;
  }
  return std::nullopt;
}

bool starts_with(Bytes bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), bytes.begin(),
                    [](char a, auto b) { return static_cast<std::uint8_t>(a) == b; });
}

}  // namespace

std::optional<int> exif_orientation(Bytes exif) {
  using namespace std::string_view_literals;
  while (starts_with(exif, "Exif\0\0"sv)) exif = exif.subspan(6);
  if (exif.empty()) return std::nullopt;
  const auto begins = [&](auto... heads) { return (starts_with(exif, heads) || ...); };
  const bool big_endian = begins("MM\0*"sv, "MM*\0"sv, "MM\0+"sv);
  if (!big_endian && !begins("II*\0"sv, "II\0*"sv, "II+\0"sv)) return 0;
  const bool wide = begins("MM\0+"sv, "II+\0"sv);
  const TiffView view(exif, big_endian);
  const std::uint64_t offset_size = wide ? 8 : 4;
  if (!view.holds(offset_size, offset_size)) return 0;
  return find_orientation(view, view.number(offset_size, offset_size), wide);
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
  const std::optional<int> told = exif_orientation(exif);
  const int orientation = told ? *told : xmp_orientation(xmp);
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
