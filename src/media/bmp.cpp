// Windows and OS/2 bitmaps whose pixels are stored as they are: indices into a palette, bit fields, whole bytes.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <vector>

#include "media/codec.h"
#include "media/mat.h"

namespace tte::media {
namespace {

enum Compression : std::uint32_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

constexpr std::size_t kFileHeaderBytes = 14;

struct Masks {
  std::uint32_t red = 0, green = 0, blue = 0, alpha = 0;
  bool operator==(const Masks&) const = default;
};
constexpr Masks k555{0x7C00, 0x3E0, 0x1F, 0}, k565{0xF800, 0x7E0, 0x1F, 0}, kBgr{0xFF0000, 0xFF00, 0xFF, 0};

bool is_byte(std::uint32_t mask) {
  return mask == 0xFF || mask == 0xFF00 || mask == 0xFF0000 || mask == 0xFF000000;
}

class Bmp {
 public:
  explicit Bmp(const Source& source) : source_(source), bytes_(source.bytes) {}

  Decoded decode() {
    read_header();
    source_.check_size(width_, height_);
    source_.work(width_ * height_);
    Decoded decoded;
    decoded.pixels = bits_ >= 24 ? reorder_bytes() : look_up();
    if (!top_down_) {
      const cv::Mat pixels = as_mat(decoded.pixels);
      cv::flip(pixels, pixels, 0);
    }
    return decoded;
  }

 private:
  [[nodiscard]] std::uint32_t number(std::size_t at, int size) const {
    if (at > bytes_.size() || bytes_.size() - at < static_cast<std::size_t>(size)) truncated();
    std::uint32_t value = 0;
    for (int i = 0; i < size; ++i) value |= static_cast<std::uint32_t>(bytes_[at + i]) << (8 * i);
    return value;
  }
  [[noreturn]] void truncated() const { source_.fail("is a truncated BMP; fetch it again."); }

  void read_header() {
    const std::uint32_t header_bytes = number(14, 4);
    std::uint32_t compression = kRaw;
    std::int64_t colors = 0;
    if (header_bytes == 12) {
      width_ = number(18, 2);
      height_ = number(20, 2);
      bits_ = number(24, 2);
      color_bytes_ = 3;
    } else if (header_bytes == 40 || header_bytes == 52 || header_bytes == 56 || header_bytes == 64 ||
               header_bytes == 108 || header_bytes == 124) {
      width_ = number(18, 4);
      height_ = number(22, 4);
      top_down_ = height_ >> 24 == 0xFF;  // A negative height.
      if (top_down_) height_ = (std::int64_t{1} << 32) - height_;
      bits_ = number(28, 2);
      compression = number(30, 4);
      colors = number(46, 4);
    } else {
      source_.fail(fmt::format("is a BMP with a header of {} bytes, which tte does not know.", header_bytes));
    }
    std::size_t at = kFileHeaderBytes + header_bytes;
    if (at > bytes_.size()) truncated();
    if (compression == kBitFields) {
      // Longer headers hold the masks just where they follow one of 40 bytes (red, green, blue).
      constexpr std::size_t kMasksAt = kFileHeaderBytes + 40;
      masks_ = {number(kMasksAt, 4), number(kMasksAt + 4, 4), number(kMasksAt + 8, 4), 0};
      if (header_bytes >= 56) masks_.alpha = number(kMasksAt + 12, 4);
      if (header_bytes < 52) at += 12;
    }
    check_layout(compression);
    pixels_at_ = number(10, 4);
    if (bits_ <= 8) {
      colors_ = colors == 0 ? std::int64_t{1} << bits_ : colors;
      if (colors_ < 1 || colors_ > 256)
        source_.fail(fmt::format("is a BMP with a palette of {} colours.", colors_));
      palette_at_ = at;
      at += static_cast<std::size_t>(colors_) * color_bytes_;
      if (at > bytes_.size()) truncated();
      // Some writers forget the palette in the offset of the pixels.
      if (pixels_at_ == palette_at_) pixels_at_ = at;
    }
    if (pixels_at_ == 0) pixels_at_ = at;
  }

  void check_layout(std::uint32_t compression) {
    if (compression == kRle8 || compression == kRle4) {
      source_.fail("is a BMP with run-length compression, which tte does not read; save it as PNG.");
    }
    Masks& m = masks_;
    bool known = compression == kRaw || compression == kBitFields;
    if (compression == kRaw) {
      known = bits_ == 1 || bits_ == 4 || bits_ == 8 || bits_ == 16 || bits_ == 24 || bits_ == 32;
      m = bits_ == 16 ? k555 : kBgr;
    } else if (bits_ == 32) {
      if (m == Masks{}) m = {kBgr.red, kBgr.green, kBgr.blue, 0xFF000000};
      known = known && is_byte(m.red) && is_byte(m.green) && is_byte(m.blue) &&
              (m.alpha == 0 || is_byte(m.alpha));
    } else {
      m.alpha = 0;
      known = known && (bits_ == 24 ? m == kBgr : bits_ == 16 && (m == k555 || m == k565));
    }
    if (known) return;
    source_.fail(fmt::format(
        "is a BMP of {} bits with compression {} and masks {:08x}, {:08x}, {:08x}, {:08x}, which tte does "
        "not read; save it as PNG.",
        bits_, compression, m.red, m.green, m.blue, m.alpha));
  }

  // Bytes from one row of the file to the next: rows are padded to four bytes, of which the last row may lack some.
  [[nodiscard]] std::size_t stride() const {
    const std::size_t used = (static_cast<std::size_t>(width_) * bits_ + 7) / 8;
    const std::size_t padded = (used + 3) / 4 * 4;
    const std::size_t available = bytes_.size() - std::min(bytes_.size(), pixels_at_);
    if (used > available || (available - used) / padded + 1 < static_cast<std::size_t>(height_)) truncated();
    return padded;
  }

  // Whole bytes in the order that the masks tell.
  [[nodiscard]] at::Tensor reorder_bytes() const {
    const std::size_t row_bytes = stride();
    const auto byte = [](std::uint32_t mask) { return __builtin_ctz(mask) / 8; };
    std::vector<int> order = {byte(masks_.red), byte(masks_.green), byte(masks_.blue)};
    if (source_.want_alpha && masks_.alpha != 0) order.push_back(byte(masks_.alpha));
    at::Tensor pixels = source_.allocate(height_, width_, static_cast<int>(order.size()));
    const cv::Mat to = as_mat(pixels);
    pick_channels(cv::Mat(to.rows, to.cols, CV_8UC(static_cast<int>(bits_ / 8)),
                          const_cast<std::uint8_t*>(bytes_.data() + pixels_at_), row_bytes),
                  to, order);
    return pixels;
  }

  // The colour of every number that a pixel can be; what is not in the palette is black.
  [[nodiscard]] std::vector<cv::Vec3b> colors() const {
    std::vector<cv::Vec3b> out(std::size_t{1} << bits_);
    const auto field = [](std::size_t value, std::uint32_t mask) {
      const int shift = __builtin_ctz(mask);
      return static_cast<std::uint8_t>(((value & mask) >> shift) * 255 / (mask >> shift));
    };
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (bits_ == 16) {
        out[i] = {field(i, masks_.red), field(i, masks_.green), field(i, masks_.blue)};
      } else if (i < static_cast<std::size_t>(colors_)) {
        const std::uint8_t* bgr = bytes_.data() + palette_at_ + i * color_bytes_;
        out[i] = {bgr[2], bgr[1], bgr[0]};
      }
    }
    return out;
  }

  [[nodiscard]] at::Tensor look_up() const {
    const std::size_t row_bytes = stride();
    const Budget::Loan loan = source_.borrow(static_cast<std::int64_t>(3) << bits_);
    const std::vector<cv::Vec3b> table = colors();
    at::Tensor pixels = source_.allocate(height_, width_, 3);
    cv::Mat to = as_mat(pixels);
    for (int y = 0; y < to.rows; ++y) {
      const std::uint8_t* row = bytes_.data() + pixels_at_ + static_cast<std::size_t>(y) * row_bytes;
      auto* out = to.ptr<cv::Vec3b>(y);
      for (std::size_t x = 0; x < static_cast<std::size_t>(width_); ++x) {
        const std::size_t bit = x * bits_;
        const std::size_t stored = bits_ == 16 ? row[2 * x] | std::size_t{row[2 * x + 1]} << 8
                                               : std::size_t{row[bit / 8]} >> (8 - bits_ - bit % 8);
        out[x] = table[stored & (table.size() - 1)];
      }
    }
    return pixels;
  }

  const Source& source_;
  Bytes bytes_;
  std::int64_t width_ = 0, height_ = 0;
  bool top_down_ = false;
  std::uint32_t bits_ = 0;
  std::int64_t colors_ = 0;
  std::size_t palette_at_ = 0, color_bytes_ = 4, pixels_at_ = 0;
  Masks masks_;
};

}  // namespace

Decoded decode_bmp(const Source& source) {
  return Bmp(source).decode();
}

}  // namespace tte::media
