// JPEG through libjpeg, as strict as Pillow: a file that ends before its image does is an error, damaged
// entropy data inside a complete file is not.
#include <fmt/core.h>

#include <csetjmp>
#include <cstddef>
#include <cstdio>  // jpeglib.h needs FILE.
#include <exception>
#include <string>
#include <vector>

#include <jerror.h>
#include <jpeglib.h>

#include "media/codec.h"
#include "media/exif.h"

namespace tte::media {
namespace {

// Real progressive files have about ten scans, however small; each costs a pass over the whole image.
constexpr int kMaxScans = 100;
constexpr int kApp1 = JPEG_APP0 + 1;

struct ErrorState {
  jpeg_error_mgr manager;  // First: libjpeg hands back a pointer to it.
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* state = reinterpret_cast<ErrorState*>(info->err);
  state->manager.format_message(info, state->message);
  std::longjmp(state->jump, 1);
}

void on_message(j_common_ptr /*info*/) {}
void on_warning(j_common_ptr info, int level) {
  if (level < 0) ++info->err->num_warnings;
}

void source_init(j_decompress_ptr /*info*/) {}
boolean source_fill(j_decompress_ptr info) {
  ERREXIT(info, JERR_INPUT_EOF);
  return FALSE;
}
void source_skip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  if (static_cast<std::size_t>(count) > info->src->bytes_in_buffer) ERREXIT(info, JERR_INPUT_EOF);
  info->src->next_input_byte += count;
  info->src->bytes_in_buffer -= static_cast<std::size_t>(count);
}
void source_end(j_decompress_ptr /*info*/) {}

// Called many times in each pass over the image.
struct Progress {
  jpeg_progress_mgr manager;  // First: libjpeg hands back a pointer to it.
  const Source* source;
  std::int64_t pixels = 0;  // Width times height; 0 until the header is read.
  int scans = 0;            // How many passes are accounted for.
  std::exception_ptr refused;
};

void on_progress(j_common_ptr info) {
  auto* decompress = reinterpret_cast<j_decompress_ptr>(info);
  auto* progress = reinterpret_cast<Progress*>(info->progress);
  try {  // No exception may pass through C code.
    progress->source->budget.check_cancelled();
    for (; progress->scans < decompress->input_scan_number; ++progress->scans) {
      progress->source->work(progress->pixels);
    }
    if (progress->scans > kMaxScans) {
      progress->source->fail(fmt::format("is a JPEG of more than {} scans; save it again.", kMaxScans));
    }
  } catch (...) {
    progress->refused = std::current_exception();
    ERREXIT(info, JERR_BAD_PROGRESSION);
  }
}

// The decoder's state. Everything with a destructor lives here or in the caller, outside the reach of longjmp.
class Jpeg {
 public:
  explicit Jpeg(const Source& source) : source_(source) {
    info_.err = jpeg_std_error(&error_.manager);
    error_.manager.error_exit = on_error;
    error_.manager.output_message = on_message;
    error_.manager.emit_message = on_warning;
    input_.init_source = source_init;
    input_.fill_input_buffer = source_fill;
    input_.skip_input_data = source_skip;
    input_.resync_to_restart = jpeg_resync_to_restart;
    input_.term_source = source_end;
    input_.next_input_byte = source.bytes.data();
    input_.bytes_in_buffer = source.bytes.size();
    progress_.manager.progress_monitor = on_progress;
    progress_.source = &source;
  }
  ~Jpeg() {
    if (created_) jpeg_destroy_decompress(&info_);
  }
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;

  Decoded decode() {
    if (!read_header()) fail();
    source_.check_size(info_.image_width, info_.image_height);
    progress_.pixels = std::int64_t{info_.image_width} * info_.image_height;
    source_.work(progress_.pixels);
    progress_.scans = 1;
    const int components = info_.num_components;
    if (components != 1 && components != 3 && components != 4) {
      source_.fail(fmt::format("is a JPEG with {} colour components; tte takes 1, 3 or 4.", components));
    }
    Decoded decoded;
    decoded.orientation = orientation();
    // With several scans, all coefficients are held until the last.
    Budget::Loan coefficients;
    if (jpeg_has_multiple_scans(&info_) != 0) {
      coefficients = source_.borrow(progress_.pixels * components * static_cast<std::int64_t>(sizeof(JCOEF)));
    }
    info_.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
    decoded.pixels = source_.allocate(info_.image_height, info_.image_width, 3);
    std::vector<std::uint8_t> cmyk;
    if (components == 4) cmyk.resize(static_cast<std::size_t>(info_.image_width) * 4);
    if (!read_pixels(decoded.pixels.mutable_data_ptr<std::uint8_t>(), cmyk.empty() ? nullptr : cmyk.data()))
      fail();
    return decoded;
  }

 private:
  bool read_header() {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_create_decompress(&info_);
    created_ = true;
    info_.src = &input_;
    info_.progress = &progress_.manager;
    jpeg_save_markers(&info_, kApp1, 0xFFFF);
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  bool read_pixels(std::uint8_t* out, std::uint8_t* cmyk) {
    if (setjmp(error_.jump) != 0) return false;
    read_rows(out, cmyk);
    return true;
  }

  void read_rows(std::uint8_t* out, std::uint8_t* cmyk) {
    jpeg_start_decompress(&info_);
    const std::size_t stride = static_cast<std::size_t>(info_.output_width) * 3;
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = cmyk != nullptr ? cmyk : out;
      jpeg_read_scanlines(&info_, &row, 1);
      if (cmyk != nullptr) {
        // Photoshop stores CMYK inverted, and everybody followed; Pillow assumes it too.
        for (std::size_t i = 0; i < static_cast<std::size_t>(info_.output_width) * 4; ++i)
          cmyk[i] = 255 - cmyk[i];
        cmyk_to_rgb(cmyk, out, info_.output_width);
      }
      out += stride;
    }
    jpeg_finish_decompress(&info_);  // Reads up to the end-of-image marker, which must be there.
  }

  [[nodiscard]] int orientation() const {
    using namespace std::string_view_literals;
    constexpr auto kExif = "Exif\0\0"sv;
    constexpr auto kXmp = "http://ns.adobe.com/xap/1.0/\0"sv;
    std::vector<std::uint8_t> exif;
    Bytes xmp;
    for (auto* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
      if (marker->marker != kApp1) continue;
      const std::string_view text(reinterpret_cast<const char*>(marker->data), marker->data_length);
      const Bytes data(marker->data, marker->data_length);
      if (text.starts_with(kExif)) {
        // A block over 64 KB is spread over several markers.
        exif.insert(exif.end(), data.begin() + kExif.size(), data.end());
      } else if (text.starts_with(kXmp)) {
        xmp = data.subspan(kXmp.size());
      }
    }
    return choose_orientation(exif, xmp);
  }

  [[noreturn]] void fail() const {
    if (progress_.refused) std::rethrow_exception(progress_.refused);
    if (info_.err->msg_code == JERR_INPUT_EOF) {
      source_.fail("is a truncated JPEG: the file ends before the image does; fetch it again.");
    }
    source_.fail(fmt::format("is a JPEG that cannot be decoded: {}.", error_.message));
  }

  const Source& source_;
  jpeg_decompress_struct info_{};
  ErrorState error_{};
  jpeg_source_mgr input_{};
  Progress progress_{};
  bool created_ = false;
};

}  // namespace

Decoded decode_jpeg(const Source& source) {
  return Jpeg(source).decode();
}

}  // namespace tte::media
