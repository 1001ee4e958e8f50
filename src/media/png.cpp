// PNG through libpng. A bad checksum in any chunk up to the last image data is an error; 16 bits a channel
// are rounded to 8.
#include <fmt/core.h>
#include <png.h>
#include <zlib.h>

#include <csetjmp>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "media/codec.h"
#include "media/exif.h"

namespace tte::media {
namespace {

constexpr std::size_t kSignatureBytes = 8;

std::uint32_t big_endian(Bytes bytes, std::size_t at) {
  return std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 |
         std::uint32_t{bytes[at + 2]} << 8 | std::uint32_t{bytes[at + 3]};
}

std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// What tells the orientation, wherever it is in the file: of several chunks of a kind the last, as in Pillow.
class Metadata {
 public:
  explicit Metadata(const Source& source) : source_(source) {
    bool animated = false;
    bool image = false;
    std::size_t at = kSignatureBytes;
    while (source.bytes.size() - at >= 12) {
      const std::size_t length = big_endian(source.bytes, at);
      if (length > source.bytes.size() - at - 12) break;
      const std::string_view type = as_text(source.bytes.subspan(at + 4, 4));
      const Bytes body = source.bytes.subspan(at + 8, length);
      if (type == "IEND" || (type == "fcTL" && animated && image)) break;  // Further frames have their own.
      image = image || type == "IDAT";
      animated = animated || (type == "acTL" && length >= 4 && big_endian(body, 0) > 1);
      if (type == "eXIf") exif_ = body;
      if (type == "tEXt" || type == "zTXt" || type == "iTXt") read_text(type, as_text(body));
      at += 12 + length;
    }
  }

  [[nodiscard]] int orientation() const {
    const std::vector<std::uint8_t> profile = exif_ ? std::vector<std::uint8_t>() : unhexed(profile_.view);
    return choose_orientation(exif_.value_or(profile), as_bytes(xmp_.view));
  }

 private:
  struct Text {
    std::string_view view;
    std::string held;  // What was compressed in the file.
  };

  // A keyword and its text; between the two are what tells the compression, and two more texts in iTXt.
  void read_text(std::string_view type, std::string_view body) {
    const auto end = body.find('\0');
    if (end == std::string_view::npos) return;
    const std::string_view keyword = body.substr(0, end);
    const bool is_xmp = keyword == "XML:com.adobe.xmp";
    if (!is_xmp && keyword != "Raw profile type exif") return;
    Text& text = is_xmp ? xmp_ : profile_;
    body.remove_prefix(end + 1);
    if (type == "tEXt") {
      text.view = body;
    } else if (type == "zTXt") {
      if (body.starts_with('\0')) inflate_into(text, body.substr(1));
    } else {
      const bool compressed = !body.starts_with('\0');
      const auto language = body.find('\0', 2);
      const auto translated = language == std::string_view::npos ? language : body.find('\0', language + 1);
      if (translated == std::string_view::npos) return;
      if (!compressed) {
        text.view = body.substr(translated + 1);
      } else if (body[1] == 0) {
        inflate_into(text, body.substr(translated + 1));
      }
    }
  }

  // Damaged data leaves the text as it was; as much as there is of data that is cut is taken.
  void inflate_into(Text& text, std::string_view packed) const {
    constexpr std::size_t kMost = 1 << 20;  // Pillow's limit.
    const Budget::Loan loan = source_.borrow(2 * kMost);
    std::string room(kMost, '\0');
    z_stream stream{};
    if (inflateInit(&stream) != Z_OK) return;
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(room.data());
    stream.avail_out = static_cast<uInt>(room.size());
    const int result = inflate(&stream, Z_SYNC_FLUSH);
    inflateEnd(&stream);
    room.erase(kMost - stream.avail_out);
    source_.work(static_cast<std::int64_t>(room.size()));
    if (result != Z_STREAM_END && stream.avail_out == 0 && stream.avail_in > 0) {
      source_.fail(
          fmt::format("is a PNG with compressed metadata of over {} bytes; save it without.", kMost));
    }
    if (result != Z_STREAM_END && result != Z_OK && result != Z_BUF_ERROR) return;
    text.held = std::move(room);
    text.view = text.held;
  }

  // EXIF in hexadecimal digits, as ImageMagick writes it: after three lines, of which two name and measure it.
  [[nodiscard]] std::vector<std::uint8_t> unhexed(std::string_view text) const {
    for (int line = 0; line < 3; ++line) {
      const auto end = text.find('\n');
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    const Budget::Loan loan = source_.borrow(static_cast<std::int64_t>(text.size()));
    std::vector<std::uint8_t> bytes;
    bytes.reserve(text.size() / 2);
    int digits = 0;
    for (const char c : text) {
      const auto digit = kHexDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
      if (digit == std::string_view::npos) continue;  // The ends of lines.
      if (digits++ % 2 == 0) bytes.push_back(0);
      bytes.back() = static_cast<std::uint8_t>(bytes.back() << 4 | static_cast<std::uint8_t>(digit));
    }
    return bytes;
  }

  static constexpr std::string_view kHexDigits = "0123456789abcdef";
  const Source& source_;
  std::optional<Bytes> exif_;
  Text xmp_, profile_;
};

class Png {
 public:
  explicit Png(const Source& source) : source_(source), rest_(source.bytes) {}
  ~Png() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;

  Decoded decode() {
    if (!read_header()) fail();
    const std::int64_t width = png_get_image_width(png_, info_);
    const std::int64_t height = png_get_image_height(png_, info_);
    source_.check_size(width, height);
    source_.work(width * height);
    if (!set_transforms()) fail();
    const int channels = png_get_channels(png_, info_);
    const auto row_bytes = static_cast<std::int64_t>(png_get_rowbytes(png_, info_));
    if ((channels != 3 && channels != 4) || row_bytes != width * channels) {
      source_.fail("is a PNG of an unknown layout.");
    }
    Decoded decoded;
    decoded.pixels = source_.allocate(height, width, channels);
    std::vector<png_bytep> rows(static_cast<std::size_t>(height));
    auto* data = decoded.pixels.mutable_data_ptr<std::uint8_t>();
    for (std::int64_t y = 0; y < height; ++y) rows[static_cast<std::size_t>(y)] = data + y * row_bytes;
    if (!read_rows(rows.data())) fail();
    decoded.orientation = Metadata(source_).orientation();
    return decoded;
  }

 private:
  static void on_error(png_structp png, png_const_charp message) {
    auto* self = static_cast<Png*>(png_get_error_ptr(png));
    std::strncpy(self->message_, message, sizeof(self->message_) - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp /*png*/, png_const_charp /*message*/) {}
  static void read(png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<Png*>(png_get_io_ptr(png));
    if (self->source_.budget.refuses(0)) png_error(png, "the call was left");
    if (count > self->rest_.size()) png_error(png, "the file ends before the image does");
    std::memcpy(to, self->rest_.data(), count);
    self->rest_ = self->rest_.subspan(count);
  }

  bool read_header() {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ == nullptr) return false;
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) return false;
    png_set_read_fn(png_, this, read);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_size knows better.
    png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    // Chunks that do not change pixels are skipped unparsed: less code meets hostile bytes.
    static constexpr png_byte kSkipped[] =
        "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0"
        "sPLT\0sRGB\0sTER\0tEXt\0tIME\0zTXt";
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kSkipped,
                                static_cast<int>(sizeof(kSkipped) / 5));
    png_read_info(png_, info_);
    return true;
  }

  bool set_transforms() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    const int type = png_get_color_type(png_, info_);
    const bool alpha = (type & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(png_, info_, PNG_INFO_tRNS) != 0;
    png_set_scale_16(png_);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png_);
    if ((type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png_);
    if (alpha && source_.want_alpha) {
      png_set_tRNS_to_alpha(png_);
    } else if (alpha) {
      png_set_strip_alpha(png_);
    }
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  bool read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows);
    return true;  // What follows the image data cannot change a pixel, so it is not read.
  }

  [[noreturn]] void fail() const {
    source_.budget.check_cancelled();
    source_.fail(fmt::format("is a PNG that cannot be decoded: {}; fetch it again.",
                             message_[0] != '\0' ? message_ : "out of memory"));
  }

  const Source& source_;
  Bytes rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[160] = {};
};

}  // namespace

Decoded decode_png(const Source& source) {
  return Png(source).decode();
}

}  // namespace tte::media
