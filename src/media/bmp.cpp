// Windows and OS/2 bitmaps: the layouts that Pillow reads (1 to 32 bits, bit fields, RLE4, RLE8), each
// checked before OpenCV decodes it.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <opencv2/imgcodecs.hpp>
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

constexpr Masks k555{0x7C00, 0x3E0, 0x1F, 0}, k565{0xF800, 0x7E0, 0x1F, 0};

struct Header {
  std::uint32_t header_bytes = 0;
  std::int64_t width = 0, height = 0;
  bool top_down = false;
  int bits = 0;
  std::uint32_t compression = kRaw;
  std::int64_t colors = 0;
  int color_bytes = 4;
  Masks masks;
  std::size_t pixels_at = 0;
};

class Bmp {
 public:
  explicit Bmp(const Source& source) : source_(source), bytes_(source.bytes) {}

  Decoded decode() {
    read_header();
    source_.check_size(header_.width, header_.height);
    const std::int64_t pixels = header_.width * header_.height;
    source_.work(pixels);
    Decoded decoded;
    Budget::Loan loan;
    // A copy of the file, indices, OpenCV's own pixels.
    if (header_.bits < 24) loan = source_.borrow(static_cast<std::int64_t>(bytes_.size()) + pixels * 5);
    decoded.pixels = header_.bits >= 24 ? reorder_bytes() : decode_packed();
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
    Header& h = header_;
    h.pixels_at = number(10, 4);
    h.header_bytes = number(14, 4);
    if (h.header_bytes == 12) {
      h.width = number(18, 2);
      h.height = number(20, 2);
      h.bits = static_cast<int>(number(24, 2));
      h.color_bytes = 3;
    } else if (h.header_bytes == 40 || h.header_bytes == 52 || h.header_bytes == 56 || h.header_bytes == 64 ||
               h.header_bytes == 108 || h.header_bytes == 124) {
      h.width = number(18, 4);
      const std::uint32_t height = number(22, 4);
      h.top_down = (height >> 24) == 0xFF;  // A negative height.
      h.height = h.top_down ? (std::int64_t{1} << 32) - height : height;
      h.bits = static_cast<int>(number(28, 2));
      h.compression = number(30, 4);
      h.colors = number(46, 4);
      if (bytes_.size() < kFileHeaderBytes + h.header_bytes) truncated();
    } else {
      source_.fail(
          fmt::format("is a BMP with a header of {} bytes, which tte does not know.", h.header_bytes));
    }
    std::size_t at = kFileHeaderBytes + h.header_bytes;
    if (h.compression == kBitFields) at = read_masks(at);
    check_layout();
    if (h.colors == 0) h.colors = h.bits <= 8 ? std::int64_t{1} << h.bits : 0;
    if (h.bits <= 8) {
      if (h.colors < 1 || h.colors > 256) {
        source_.fail(fmt::format("is a BMP with a palette of {} colours.", h.colors));
      }
      at += static_cast<std::size_t>(h.colors) * h.color_bytes;
      if (at > bytes_.size()) truncated();
      // Some writers forget the palette in the offset of the pixels.
      if (h.pixels_at == kFileHeaderBytes + h.header_bytes) h.pixels_at = at;
    }
    if (h.pixels_at == 0) h.pixels_at = at;
  }

  std::size_t read_masks(std::size_t at) {
    Masks& m = header_.masks;
    // Headers of 52 bytes and more hold the masks; after a shorter one they follow (red, green, blue).
    const std::size_t first = header_.header_bytes >= 52 ? kFileHeaderBytes + 40 : at;
    m.red = number(first, 4);
    m.green = number(first + 4, 4);
    m.blue = number(first + 8, 4);
    if (header_.header_bytes >= 56) m.alpha = number(first + 12, 4);
    return header_.header_bytes >= 52 ? at : at + 12;
  }

  void check_layout() {
    Header& h = header_;
    const int bits = h.bits;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) {
      source_.fail(fmt::format("is a BMP of {} bits a pixel, which tte does not read.", bits));
    }
    static constexpr Masks kBgr{0xFF0000, 0xFF00, 0xFF, 0}, kBgra{0xFF0000, 0xFF00, 0xFF, 0xFF000000};
    bool known = false;
    if (h.compression == kRaw) {
      known = true;
      h.masks = bits == 16 ? k555 : kBgr;
    } else if (h.compression == kRle8 || h.compression == kRle4) {
      known = bits == (h.compression == kRle8 ? 8 : 4);
    } else if (h.compression == kBitFields && bits == 32) {
      static constexpr std::array<Masks, 7> kKnown = {{kBgr,
                                                       {0xFF000000, 0xFF0000, 0xFF00, 0},
                                                       {0xFF000000, 0xFF00, 0xFF, 0},
                                                       {0xFF000000, 0xFF0000, 0xFF00, 0xFF},
                                                       {0xFF, 0xFF00, 0xFF0000, 0xFF000000},
                                                       kBgra,
                                                       {0xFF000000, 0xFF00, 0xFF, 0xFF0000}}};
      if (h.masks == Masks{}) h.masks = kBgra;
      known = std::find(kKnown.begin(), kKnown.end(), h.masks) != kKnown.end();
    } else if (h.compression == kBitFields) {
      h.masks.alpha = 0;
      known = bits == 24 ? h.masks == kBgr : bits == 16 && (h.masks == k555 || h.masks == k565);
    }
    if (!known) {
      source_.fail(fmt::format(
          "is a BMP of {} bits with compression {} and masks {:08x}, {:08x}, {:08x}, {:08x}, which "
          "tte does not read; save it as PNG.",
          bits, h.compression, h.masks.red, h.masks.green, h.masks.blue, h.masks.alpha));
    }
  }

  // Bytes from one row of the file to the next: rows are padded to four bytes, of which the last row may lack
  // some.
  [[nodiscard]] std::size_t raw_stride() const {
    const std::size_t used = (static_cast<std::size_t>(header_.width) * header_.bits + 7) / 8;
    const std::size_t stride = (used + 3) / 4 * 4;
    const std::size_t available = bytes_.size() - std::min(bytes_.size(), header_.pixels_at);
    if (used > available || (available - used) / stride + 1 < static_cast<std::size_t>(header_.height))
      truncated();
    return stride;
  }

  // Whole bytes in the order that the masks tell: nothing to decode. (cv::imdecode heeds masks in some
  // headers only.)
  at::Tensor reorder_bytes() {
    const std::size_t stride = raw_stride();
    const Masks& m = header_.masks;
    const auto byte = [](std::uint32_t mask) { return __builtin_ctz(mask) / 8; };
    std::vector<int> order = {byte(m.red), byte(m.green), byte(m.blue)};
    if (source_.want_alpha && m.alpha != 0) order.push_back(byte(m.alpha));
    at::Tensor pixels = source_.allocate(header_.height, header_.width, static_cast<int>(order.size()));
    const cv::Mat to = as_mat(pixels);
    const cv::Mat stored(to.rows, to.cols, CV_8UC(header_.bits / 8),
                         const_cast<std::uint8_t*>(bytes_.data() + header_.pixels_at), stride);
    pick_channels(stored, to, order);
    if (!header_.top_down) cv::flip(to, to, 0);
    return pixels;
  }

  at::Tensor decode_packed() {
    const cv::Mat bgr = cv::imdecode(mend_file(), cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
    if (bgr.rows != header_.height || bgr.cols != header_.width) {
      source_.fail("is a BMP that cannot be decoded; save it as PNG.");
    }
    at::Tensor pixels = source_.allocate(header_.height, header_.width, 3);
    const cv::Mat to = as_mat(pixels);
    pick_channels(bgr, to, {2, 1, 0});
    if (header_.bits == 16) {
      // Where OpenCV puts a field of 5 or 6 bits in the upper bits of the byte, Pillow scales it to 255.
      const int green_bits = header_.masks.green == k565.green ? 6 : 5;
      cv::Mat scaled(1, 256, CV_8UC3);
      for (int i = 0; i < 256; ++i) {
        const auto scale = [&](int bits) {
          return static_cast<std::uint8_t>((i >> (8 - bits)) * 255 / ((1 << bits) - 1));
        };
        scaled.at<cv::Vec3b>(i) = {scale(5), scale(green_bits), scale(5)};
      }
      cv::LUT(to, scaled, to);
    }
    return pixels;
  }

  // The file with all put right that cv::imdecode would stumble over.
  [[nodiscard]] std::vector<std::uint8_t> mend_file() const {
    const Header& h = header_;
    const bool run_length = h.compression == kRle8 || h.compression == kRle4;
    if (!run_length) static_cast<void>(raw_stride());  // Throws for a truncated file.
    std::vector<std::uint8_t> file(bytes_.begin(), bytes_.end());
    const auto put = [&](std::size_t at, std::size_t value, int size) {
      for (int i = 0; i < size; ++i) file[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
    };
    put(10, run_length ? file.size() : h.pixels_at, 4);
    if (run_length) {
      // OpenCV ignores RLE4's moves, fills up images that end too early, and refuses runs over the end of a
      // row.
      const std::vector<std::uint8_t> indices = expand_runs();
      const auto width = static_cast<std::ptrdiff_t>(h.width);
      for (auto row = indices.begin(); row != indices.end(); row += width) {
        file.insert(file.end(), row, row + width);
        file.resize(file.size() + static_cast<std::size_t>(-width & 3));
      }
      put(28, 8, 2);
      put(30, kRaw, 4);
      put(46, static_cast<std::size_t>(h.colors), 4);
    }
    // Longer headers have the masks inside, just where they follow a header of 40 bytes.
    if (h.bits == 16 && h.header_bytes > 40) put(14, 40, 4);
    file.resize(file.size() + 3);  // The last row's padding.
    return file;
  }

  // RLE4 or RLE8 into one index a byte, in the file's row order. Every pixel must be accounted for.
  [[nodiscard]] std::vector<std::uint8_t> expand_runs() const {
    const bool rle4 = header_.compression == kRle4;
    const auto width = static_cast<std::size_t>(header_.width);
    const std::size_t total = width * static_cast<std::size_t>(header_.height);
    std::vector<std::uint8_t> out;
    out.reserve(total);
    std::size_t at = header_.pixels_at;
    std::size_t x = 0;
    const auto room = [&](std::size_t count) { return std::min(count, total - out.size()); };
    while (out.size() < total) {
      const std::uint32_t count = number(at, 1);
      const std::uint32_t value = number(at + 1, 1);
      at += 2;
      if (count > 0) {
        const std::size_t pixels = room(std::min<std::size_t>(count, width - std::min(x, width)));
        for (std::size_t i = 0; i < pixels; ++i) {
          out.push_back(static_cast<std::uint8_t>(!rle4 ? value : i % 2 == 0 ? value >> 4 : value & 15));
        }
        x += pixels;
      } else if (value == 0) {  // End of the row.
        out.resize((out.size() + width - 1) / width * width);
        x = 0;
      } else if (value == 1) {  // End of the image.
        break;
      } else if (value == 2) {  // Move right and up, over pixels of colour 0.
        const std::size_t right = number(at, 1);
        const std::size_t up = number(at + 1, 1);
        at += 2;
        out.resize(out.size() + room(right + up * width));
        x = out.size() % width;
      } else {  // `value` pixels as they are, padded to two bytes.
        for (std::size_t i = 0, pixels = room(value); i < pixels; ++i) {
          const std::uint32_t byte = number(at + (rle4 ? i / 2 : i), 1);
          out.push_back(static_cast<std::uint8_t>(!rle4 ? byte : i % 2 == 0 ? byte >> 4 : byte & 15));
        }
        at += rle4 ? (value + 1) / 2 : value;
        at += at % 2;
        x += value;
      }
    }
    if (out.size() < total) truncated();
    return out;
  }

  const Source& source_;
  Bytes bytes_;
  Header header_;
};

}  // namespace

Decoded decode_bmp(const Source& source) {
  return Bmp(source).decode();
}

}  // namespace tte::media
