// The first image of a TIFF through libtiff. Integer samples of 1 to 16 bits; 16 bits are rounded to 8.
#include <ATen/Functions.h>
#include <fmt/core.h>
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "media/codec.h"
#include "media/exif.h"
#include "media/mat.h"

namespace tte::media {
namespace {

// The reading position in the caller's bytes, and what libtiff said last.
struct Stream {
  Bytes bytes;
  toff_t position = 0;
  std::string message;
};

tmsize_t stream_read(thandle_t handle, void* to, tmsize_t count) {
  auto* s = static_cast<Stream*>(handle);
  if (count <= 0 || s->position >= s->bytes.size()) return 0;
  const auto n =
      std::min(static_cast<std::size_t>(count), s->bytes.size() - static_cast<std::size_t>(s->position));
  std::memcpy(to, s->bytes.data() + s->position, n);
  s->position += n;
  return static_cast<tmsize_t>(n);
}
tmsize_t stream_write(thandle_t /*handle*/, void* /*from*/, tmsize_t /*count*/) {
  return 0;
}
toff_t stream_seek(thandle_t handle, toff_t offset, int whence) {
  auto* s = static_cast<Stream*>(handle);
  if (whence == SEEK_CUR) offset += s->position;
  if (whence == SEEK_END) offset += s->bytes.size();
  s->position = offset;
  return offset;
}
int stream_close(thandle_t /*handle*/) {
  return 0;
}
toff_t stream_size(thandle_t handle) {
  return static_cast<Stream*>(handle)->bytes.size();
}

#if TIFFLIB_VERSION >= 20221213  // 4.5: handlers of a single file.
int on_error(TIFF* /*tiff*/, void* user, const char* /*module*/, const char* format, va_list arguments) {
  std::array<char, 200> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  static_cast<Stream*>(user)->message = text.data();
  return 1;  // Handled: nothing is printed.
}
int on_warning(TIFF* /*tiff*/, void* /*user*/, const char* /*module*/, const char* /*format*/,
               va_list /*arguments*/) {
  return 1;
}
#endif

TIFF* open_tiff(Stream& stream, std::int64_t max_bytes) {
#if TIFFLIB_VERSION >= 20221213
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  if (options == nullptr) return nullptr;
  TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, &stream);
  TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, nullptr);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, max_bytes);
  TIFF* tiff = TIFFClientOpenExt("image", "rm", &stream, stream_read, stream_write, stream_seek, stream_close,
                                 stream_size, nullptr, nullptr, options);
  TIFFOpenOptionsFree(options);
  return tiff;
#else
  static_cast<void>(max_bytes);
  static std::once_flag silenced;  // The handlers are the process's in this libtiff; it must not print.
  std::call_once(silenced, [] {
    TIFFSetErrorHandler(nullptr);
    TIFFSetWarningHandler(nullptr);
  });
  return TIFFClientOpen("image", "rm", &stream, stream_read, stream_write, stream_seek, stream_close,
                        stream_size, nullptr, nullptr);
#endif
}

// libtiff goes on without a field that it cannot read, and the pixels then come out wrong. So every field of the
// first directory that has a say in pixels must lie wholly in the file, and a palette be there if one is needed.
bool directory_is_whole(Bytes bytes) {
  const bool big_endian = bytes[0] == 'M';
  const auto number = [&](std::uint64_t at, int size) {
    std::uint64_t value = 0;
    for (int i = 0; i < size; ++i) {
      const int shift = 8 * (big_endian ? size - 1 - i : i);
      value |= std::uint64_t{bytes[static_cast<std::size_t>(at) + static_cast<std::size_t>(i)]} << shift;
    }
    return value;
  };
  const auto holds = [&](std::uint64_t at, std::uint64_t size) {
    return at <= bytes.size() && size <= bytes.size() - at;
  };
  if (!holds(0, 16)) return false;
  const bool big_tiff = number(2, 2) == 43;
  const int offset_bytes = big_tiff ? 8 : 4;
  const int count_bytes = big_tiff ? 8 : 2;
  const std::uint64_t entry_bytes = big_tiff ? 20 : 12;
  const std::uint64_t directory = number(big_tiff ? 8 : 4, offset_bytes);
  if (!holds(directory, static_cast<std::uint64_t>(count_bytes))) return false;
  const std::uint64_t entries = number(directory, count_bytes);
  const std::uint64_t first = directory + static_cast<std::uint64_t>(count_bytes);
  if (entries > (bytes.size() - first) / entry_bytes) return false;
  static constexpr std::array<std::uint64_t, 19> kTypeBytes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                                               8, 4, 8, 4, 0, 0, 8, 8, 8};
  static constexpr std::array<std::uint16_t, 22> kFields = {
      TIFFTAG_IMAGEWIDTH,      TIFFTAG_IMAGELENGTH,     TIFFTAG_BITSPERSAMPLE,   TIFFTAG_COMPRESSION,
      TIFFTAG_PHOTOMETRIC,     TIFFTAG_FILLORDER,       TIFFTAG_STRIPOFFSETS,    TIFFTAG_ORIENTATION,
      TIFFTAG_SAMPLESPERPIXEL, TIFFTAG_ROWSPERSTRIP,    TIFFTAG_STRIPBYTECOUNTS, TIFFTAG_PLANARCONFIG,
      TIFFTAG_PREDICTOR,       TIFFTAG_COLORMAP,        TIFFTAG_TILEWIDTH,       TIFFTAG_TILELENGTH,
      TIFFTAG_TILEOFFSETS,     TIFFTAG_TILEBYTECOUNTS,  TIFFTAG_EXTRASAMPLES,    TIFFTAG_SAMPLEFORMAT,
      TIFFTAG_JPEGTABLES,      TIFFTAG_YCBCRSUBSAMPLING};
  bool needs_palette = false;
  bool has_palette = false;
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::uint64_t entry = first + i * entry_bytes;
    const std::uint64_t tag = number(entry, 2);
    if (std::find(kFields.begin(), kFields.end(), tag) == kFields.end()) continue;
    const std::uint64_t type = number(entry + 2, 2);
    const std::uint64_t count = number(entry + 4, offset_bytes);
    if (type >= kTypeBytes.size() || kTypeBytes[type] == 0 || count > bytes.size()) return false;
    const std::uint64_t size = count * kTypeBytes[type];
    const std::uint64_t value_at = entry + 4 + static_cast<std::uint64_t>(offset_bytes);
    if (size > static_cast<std::uint64_t>(offset_bytes) && !holds(number(value_at, offset_bytes), size))
      return false;
    has_palette = has_palette || tag == TIFFTAG_COLORMAP;
    needs_palette =
        needs_palette || (tag == TIFFTAG_PHOTOMETRIC && number(value_at, 2) == PHOTOMETRIC_PALETTE);
  }
  return has_palette || !needs_palette;
}

struct CloseTiff {
  void operator()(TIFF* tiff) const { TIFFClose(tiff); }
};

enum class AlphaKind { kNone, kStraight, kPremultiplied };

struct TiffLayout {
  std::uint32_t width = 0, height = 0;
  std::uint16_t bits = 1, samples = 1, photometric = PHOTOMETRIC_MINISBLACK, planar = PLANARCONFIG_CONTIG;
  std::uint16_t compression = COMPRESSION_NONE;
  int colors = 1;  // Samples that are colour; the next one may be alpha.
  AlphaKind alpha = AlphaKind::kNone;
  std::array<const std::uint16_t*, 3> palette{};
};

// Samples of 1, 2 or 4 bits, one a byte; every row begins with a whole byte.
cv::Mat unpack(const std::uint8_t* data, tmsize_t row_bytes, int rows, int samples, int bits) {
  cv::Mat out(rows, samples, CV_8UC1);
  for (int y = 0; y < rows; ++y, data += row_bytes) {
    auto* to = out.ptr<std::uint8_t>(y);
    for (int i = 0; i < samples; ++i) {
      const std::int64_t bit = std::int64_t{i} * bits;
      to[i] = static_cast<std::uint8_t>(data[bit / 8] >> (8 - bits - bit % 8) & ((1 << bits) - 1));
    }
  }
  return out;
}

class Tiff {
 public:
  explicit Tiff(const Source& source) : source_(source), stream_{source.bytes, 0, {}} {
    if (!directory_is_whole(source.bytes)) source.fail("is a truncated or damaged TIFF; fetch it again.");
    tiff_.reset(open_tiff(stream_, source.budget.limits().max_item_bytes + (1 << 20)));
    if (!tiff_) fail("is a TIFF that cannot be opened");
  }

  Decoded decode() {
    read_layout();
    Decoded decoded;
    decoded.orientation = orientation();
    read_colors();
    decoded.pixels = read_blocks();
    return decoded;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    source_.fail(stream_.message.empty() ? what + "." : fmt::format("{}: {}.", what, stream_.message));
  }

  template <typename T>
  T field(std::uint32_t tag, T fallback) const {
    T value = fallback;
    return TIFFGetFieldDefaulted(tiff_.get(), tag, &value) == 1 ? value : fallback;
  }

  void read_layout() {
    TiffLayout& l = layout_;
    l.width = field<std::uint32_t>(TIFFTAG_IMAGEWIDTH, 0);
    l.height = field<std::uint32_t>(TIFFTAG_IMAGELENGTH, 0);
    source_.check_size(l.width, l.height);
    l.bits = field<std::uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
    l.samples = field<std::uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
    l.planar = field<std::uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    l.compression = field<std::uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    if (TIFFGetField(tiff_.get(), TIFFTAG_PHOTOMETRIC, &l.photometric) != 1)
      l.photometric = PHOTOMETRIC_MINISWHITE;
    const auto format = field<std::uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    const bool known_bits = l.bits == 1 || l.bits == 2 || l.bits == 4 || l.bits == 8 || l.bits == 16;
    if (!known_bits || (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID)) {
      fail(fmt::format(
          "is a TIFF of {} bits a sample in sample format {}, but tte reads unsigned integers of 1, 2, 4, "
          "8 or 16 bits; convert it",
          l.bits, format));
    }
    if (l.samples < 1 || l.samples > 8) fail(fmt::format("is a TIFF of {} samples a pixel", l.samples));
    // The old JPEG-in-TIFF scheme is decoded by code that few files exercise and that hostile ones break.
    if (l.compression == COMPRESSION_OJPEG || TIFFIsCODECConfigured(l.compression) == 0) {
      fail(fmt::format("is a TIFF with compression {}, which tte does not read; convert it", l.compression));
    }
  }

  void read_colors() {
    TiffLayout& l = layout_;
    switch (l.photometric) {
      case PHOTOMETRIC_MINISWHITE:
      case PHOTOMETRIC_MINISBLACK:
        l.colors = 1;
        break;
      case PHOTOMETRIC_YCBCR:
        if (l.compression != COMPRESSION_JPEG || l.planar != PLANARCONFIG_CONTIG) {
          fail("is a TIFF of YCbCr colours without JPEG compression, which tte does not read; convert it");
        }
        TIFFSetField(tiff_.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        l.colors = 3;
        break;
      case PHOTOMETRIC_RGB:
        l.colors = 3;
        break;
      case PHOTOMETRIC_SEPARATED:
        l.colors = 4;
        break;
      case PHOTOMETRIC_PALETTE: {
        l.colors = 1;
        std::uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
        if (l.bits > 8 || TIFFGetField(tiff_.get(), TIFFTAG_COLORMAP, &red, &green, &blue) != 1) {
          fail("is a TIFF with a damaged palette");
        }
        l.palette = {red, green, blue};
        break;
      }
      default:
        fail(fmt::format("is a TIFF of colour space {}, which tte does not read; convert it", l.photometric));
    }
    if (l.samples < l.colors) {
      fail(fmt::format("is a TIFF of {} samples a pixel where its colour space {} needs {}", l.samples,
                       l.photometric, l.colors));
    }
    if (l.samples == l.colors) return;
    std::uint16_t count = 0;
    std::uint16_t* kinds = nullptr;
    if (TIFFGetField(tiff_.get(), TIFFTAG_EXTRASAMPLES, &count, &kinds) == 1 && count > 0) {
      if (kinds[0] == EXTRASAMPLE_ASSOCALPHA) l.alpha = AlphaKind::kPremultiplied;
      if (kinds[0] == EXTRASAMPLE_UNASSALPHA) l.alpha = AlphaKind::kStraight;
    } else if (l.colors == 3) {
      l.alpha = AlphaKind::kStraight;  // A fourth sample that nobody explains: alpha, as Pillow has it.
    }
    if (l.colors == 4) l.alpha = AlphaKind::kNone;  // CMYK with alpha: the inks alone.
  }

  [[nodiscard]] int orientation() const {
    std::uint32_t count = 0;
    void* xmp = nullptr;
    if (TIFFGetField(tiff_.get(), TIFFTAG_XMLPACKET, &count, &xmp) != 1 || xmp == nullptr) count = 0;
    return choose_orientation(source_.bytes, Bytes(static_cast<const std::uint8_t*>(xmp), count));
  }

  // Strips or tiles, each decoded into a buffer and converted where it lies in the image.
  at::Tensor read_blocks() {
    const TiffLayout& l = layout_;
    const bool tiled = TIFFIsTiled(tiff_.get()) != 0;
    auto block_width = tiled ? field<std::uint32_t>(TIFFTAG_TILEWIDTH, 0) : l.width;
    auto block_height =
        field<std::uint32_t>(tiled ? TIFFTAG_TILELENGTH : TIFFTAG_ROWSPERSTRIP, tiled ? 0 : l.height);
    if (!tiled) block_height = std::min(block_height, l.height);
    source_.check_size(block_width, block_height);
    const bool separate = l.planar == PLANARCONFIG_SEPARATE && l.samples > 1;
    const int planes = separate ? l.samples : 1;
    const int block_samples = separate ? 1 : l.samples;
    const tmsize_t block_bytes = tiled ? TIFFTileSize(tiff_.get()) : TIFFStripSize(tiff_.get());
    const tmsize_t row_bytes = tiled ? TIFFTileRowSize(tiff_.get()) : TIFFScanlineSize(tiff_.get());
    const std::uint64_t row_bits = std::uint64_t{block_width} * block_samples * l.bits;
    const auto needed_row = static_cast<tmsize_t>((row_bits + 7) / 8);
    if (row_bytes < needed_row || block_bytes < row_bytes * static_cast<tmsize_t>(block_height)) {
      fail("is a TIFF whose strips or tiles do not fit its size");
    }

    const bool alpha = l.alpha != AlphaKind::kNone;
    channels_ = alpha && source_.want_alpha ? 4 : 3;
    const std::int64_t block_pixels = std::int64_t{block_width} * block_height;
    // A block of every plane, libtiff's own state of one, and what convert_block makes of them.
    const std::int64_t converted = block_pixels * (4 + (l.bits == 8 ? 0 : l.samples));
    const Budget::Loan loan = source_.borrow(block_bytes * (planes + 1) + converted);
    pixels_ = source_.allocate(l.height, l.width, channels_);
    // Not filled: memory that a short file never writes to is never taken.
    std::vector<at::Tensor> buffers;
    buffers.reserve(static_cast<std::size_t>(planes));
    for (int i = 0; i < planes; ++i) buffers.push_back(at::empty({block_bytes}, at::kByte));
    for (std::uint32_t y = 0; y < l.height; y += block_height) {
      for (std::uint32_t x = 0; x < l.width; x += block_width) {
        const std::uint32_t rows = std::min(block_height, l.height - y);
        for (int plane = 0; plane < planes; ++plane) {
          const tmsize_t bytes = tiled ? block_bytes : row_bytes * static_cast<tmsize_t>(rows);
          read_block({tiled, x, y, plane, block_pixels, bytes, row_bytes, row_bits},
                     buffers[static_cast<std::size_t>(plane)].mutable_data_ptr<std::uint8_t>());
        }
        const std::uint32_t columns = std::min(block_width, l.width - x);
        convert_block(
            buffers, row_bytes, block_samples,
            {static_cast<int>(x), static_cast<int>(y), static_cast<int>(columns), static_cast<int>(rows)});
        if (block_width >= l.width - x) break;  // x + block_width may not fit 32 bits.
      }
      if (block_height >= l.height - y) break;
    }
    return pixels_;
  }

  // Blocks may share their bytes, and a block of JPEG data may have many scans.
  void account_block(std::uint32_t block, std::int64_t pixels) const {
    const std::uint64_t size = source_.bytes.size();
    const std::uint64_t begin = std::min<std::uint64_t>(TIFFGetStrileOffset(tiff_.get(), block), size);
    const std::uint64_t bytes = std::min(TIFFGetStrileByteCount(tiff_.get(), block), size - begin);
    source_.work(static_cast<std::int64_t>(bytes));
    std::int64_t scans = 1;
    if (layout_.compression == COMPRESSION_JPEG) {
      const Bytes data = source_.bytes.subspan(begin, bytes);
      scans = 0;
      for (std::size_t i = 1; i < data.size(); ++i) scans += data[i - 1] == 0xFF && data[i] == 0xDA ? 1 : 0;
    }
    source_.work(pixels * std::max<std::int64_t>(scans, 1));
  }

  struct Block {
    bool tiled;
    std::uint32_t x, y;
    int plane;
    std::int64_t pixels;
    tmsize_t bytes, row_bytes;
    std::uint64_t row_bits;
  };

  void read_block(const Block& b, std::uint8_t* to) {
    const std::uint16_t fax = layout_.compression;
    if (fax != COMPRESSION_CCITTRLE && fax != COMPRESSION_CCITTRLEW && fax != COMPRESSION_CCITTFAX3 &&
        fax != COMPRESSION_CCITTFAX4) {
      return decode_block(b, to);
    }
    // Fax data that ends early leaves the last rows as they were, and libtiff calls it whole: then what is decoded over
    // zeros is not what is decoded over ones.
    std::uint8_t* last = to + b.bytes - b.row_bytes;
    const auto decode_over = [&](int value) {
      std::memset(last, value, static_cast<std::size_t>(b.row_bytes));
      decode_block(b, to);
      std::vector<std::uint8_t> row(last, last + (b.row_bits + 7) / 8);
      if (b.row_bits % 8 != 0)
        row.back() &= static_cast<std::uint8_t>(0xFF00 >> b.row_bits % 8);  // Not the padding.
      return row;
    };
    if (decode_over(0) != decode_over(0xFF)) fail("is a TIFF whose image data is truncated or damaged");
  }

  void decode_block(const Block& b, std::uint8_t* to) {
    const auto sample = static_cast<std::uint16_t>(b.plane);
    const std::uint32_t block = b.tiled ? TIFFComputeTile(tiff_.get(), b.x, b.y, 0, sample)
                                        : TIFFComputeStrip(tiff_.get(), b.y, sample);
    account_block(block, b.pixels);
    stream_.message.clear();
    const tmsize_t got = b.tiled ? TIFFReadEncodedTile(tiff_.get(), block, to, b.bytes)
                                 : TIFFReadEncodedStrip(tiff_.get(), block, to, b.bytes);
    // Of a bad code it tells, and goes on.
    if (got != b.bytes || !stream_.message.empty())
      fail("is a TIFF whose image data is truncated or damaged");
  }

  // The first `columns` pixels of a block's rows as they are stored, 16 bits rounded to 8: uint8, a channel a sample.
  [[nodiscard]] cv::Mat stored_samples(const at::Tensor& buffer, tmsize_t row_bytes, int channels, int rows,
                                       int columns) const {
    const auto step = static_cast<std::size_t>(row_bytes);
    auto* data = buffer.mutable_data_ptr<std::uint8_t>();
    if (layout_.bits == 8) return {rows, columns, CV_8UC(channels), data, step};
    if (layout_.bits < 8) {
      return unpack(data, row_bytes, rows, columns * channels, layout_.bits).reshape(channels);
    }
    cv::Mat rounded;  // libtiff has already swapped the bytes to the machine's order.
    cv::Mat(rows, columns, CV_16UC(channels), data, step).convertTo(rounded, CV_8U, 1 / 257.0);
    return rounded;
  }

  void convert_block(const std::vector<at::Tensor>& buffers, tmsize_t row_bytes, int block_samples,
                     const cv::Rect& place) {
    std::vector<cv::Mat> stored;
    stored.reserve(buffers.size());
    for (const at::Tensor& buffer : buffers) {
      stored.push_back(stored_samples(buffer, row_bytes, block_samples, place.height, place.width));
    }
    cv::Mat out = as_mat(pixels_)(place);
    const TiffLayout& l = layout_;
    if (l.colors == 4) {
      cv::Mat cmyk(place.size(), CV_8UC4);
      pick_channels(stored, cmyk, {0, 1, 2, 3});
      scale(cmyk);
      for (int y = 0; y < place.height; ++y) cmyk_to_rgb(cmyk.ptr(y), out.ptr(y), place.width);
      return;
    }
    std::vector<int> order = l.colors == 3 ? std::vector{0, 1, 2} : std::vector{0, 0, 0};
    if (channels_ == 4 || l.alpha == AlphaKind::kPremultiplied) {
      order.push_back(l.colors);  // The first sample that is not colour.
      cv::Mat rgba(place.size(), CV_8UC4);
      pick_channels(stored, rgba, order);
      scale(rgba);
      if (l.alpha == AlphaKind::kPremultiplied) divide_by_alpha(rgba);
      pick_channels(rgba, out, channels_ == 4 ? std::vector{0, 1, 2, 3} : std::vector{0, 1, 2});
    } else {
      pick_channels(stored, out, order);
      scale(out);
    }
  }

  // Stored numbers into levels: through the palette, from fewer bits, from white is 0.
  void scale(const cv::Mat& values) const {
    const TiffLayout& l = layout_;
    if (l.bits >= 8 && l.photometric != PHOTOMETRIC_MINISWHITE && l.palette[0] == nullptr) return;
    cv::Mat table(1, 256, values.type(), cv::Scalar::all(0));
    const int largest = l.bits < 8 ? (1 << l.bits) - 1 : 255;
    for (int i = 0; i <= largest; ++i) {
      auto* level = table.ptr(0, i);
      for (int c = 0; c < values.channels(); ++c) {
        level[c] = static_cast<std::uint8_t>(i * 255 / largest);
        if (c == 3 || l.colors == 4) continue;
        if (l.palette[c] != nullptr) level[c] = static_cast<std::uint8_t>(l.palette[c][i] >> 8);
        if (l.photometric == PHOTOMETRIC_MINISWHITE) level[c] = static_cast<std::uint8_t>(255 - level[c]);
      }
    }
    cv::LUT(values, table, values);
  }

  static void divide_by_alpha(cv::Mat& rgba) {
    for (auto it = rgba.begin<cv::Vec4b>(), end = rgba.end<cv::Vec4b>(); it != end; ++it) {
      cv::Vec4b& pixel = *it;
      const int alpha = pixel[3];
      for (int c = 0; c < 3; ++c) {
        pixel[c] = alpha == 0 ? 0 : static_cast<std::uint8_t>(std::min(255, pixel[c] * 255 / alpha));
      }
    }
  }

  const Source& source_;
  Stream stream_;
  std::unique_ptr<TIFF, CloseTiff> tiff_;
  TiffLayout layout_;
  int channels_ = 3;
  at::Tensor pixels_;
};

}  // namespace

Decoded decode_tiff(const Source& source) {
  return Tiff(source).decode();
}

}  // namespace tte::media
