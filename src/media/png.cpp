// PNG through libpng. A bad checksum in any chunk up to the last image data is an error; 16 bits a channel
// are rounded to 8 (transformers reads such files wrongly).
#include <fmt/core.h>
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <string_view>
#include <vector>

#include "media/codec.h"
#include "media/exif.h"

namespace tte::media {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kSignatureBytes = 8;

std::uint32_t big_endian(Bytes bytes, std::size_t at) {
  return std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 |
         std::uint32_t{bytes[at + 2]} << 8 | std::uint32_t{bytes[at + 3]};
}

// The bodies of the chunks that may tell the orientation, wherever they are in the file.
struct Metadata {
  Bytes exif;
  Bytes xmp;
};

Metadata find_metadata(Bytes bytes) {
  constexpr auto kXmpKeyword = "XML:com.adobe.xmp\0"sv;
  Metadata found;
  std::size_t at = kSignatureBytes;
  while (bytes.size() - at >= 12) {
    const std::size_t length = big_endian(bytes, at);
    if (length > bytes.size() - at - 12) break;
    const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at + 4, 4);
    const Bytes body = bytes.subspan(at + 8, length);
    if (type == "eXIf") {
      found.exif = body;
    } else if (type == "iTXt" && body.size() > kXmpKeyword.size() &&
               std::memcmp(body.data(), kXmpKeyword.data(), kXmpKeyword.size()) == 0) {
      found.xmp = body.subspan(kXmpKeyword.size());
    } else if (type == "IEND") {
      break;
    }
    at += 12 + length;
  }
  return found;
}

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
    const Metadata metadata = find_metadata(source_.bytes);
    decoded.orientation = choose_orientation(metadata.exif, metadata.xmp);
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
