#include "media/image.h"

#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <new>
#include <string_view>
#include <utility>

#include "base/plain_error.h"
#include "media/codec.h"
#include "media/exif.h"
#include "media/file.h"
#include "media/mat.h"
#include "tte/error.h"

namespace tte::media {
namespace {

using namespace std::string_view_literals;

// Where the header of nearly every file ends.
constexpr std::int64_t kHeadBytes = 64 << 10;

bool has_magic(Bytes bytes, std::string_view magic, std::size_t offset = 0) {
  if (bytes.size() < offset + magic.size()) return false;
  return std::equal(magic.begin(), magic.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

using Decoder = Decoded (*)(const Source&);

Decoder find_decoder(Bytes bytes) {
  if (has_magic(bytes, "\xff\xd8\xff"sv)) return decode_jpeg;
  if (has_magic(bytes, "\x89PNG\r\n\x1a\n"sv)) return decode_png;
  if (has_magic(bytes, "RIFF"sv) && has_magic(bytes, "WEBP"sv, 8)) return decode_webp;
  if (has_magic(bytes, "GIF87a"sv) || has_magic(bytes, "GIF89a"sv)) return decode_gif;
  if (has_magic(bytes, "BM"sv)) return decode_bmp;
  if (has_magic(bytes, "II*\0"sv) || has_magic(bytes, "MM\0*"sv)) return decode_tiff;
  if (has_magic(bytes, "II+\0"sv) || has_magic(bytes, "MM\0+"sv)) return decode_tiff;  // BigTIFF.
  return nullptr;
}

// Names formats that tte refuses but people try, so that the message helps.
std::string_view name_refused(Bytes bytes) {
  if (has_magic(bytes, "ftypheic"sv, 4) || has_magic(bytes, "ftypheix"sv, 4) ||
      has_magic(bytes, "ftypmif1"sv, 4)) {
    return "HEIC";
  }
  if (has_magic(bytes, "ftypavif"sv, 4) || has_magic(bytes, "ftypavis"sv, 4)) return "AVIF";
  if (has_magic(bytes, "ftyp"sv, 4) || has_magic(bytes, "\x1a\x45\xdf\xa3"sv)) return "video";
  if (has_magic(bytes, "%PDF"sv)) return "PDF";
  if (has_magic(bytes, "version https://git-lfs"sv))
    return "a pointer of Git LFS, whose file `git lfs pull` fetches";
  if (has_magic(bytes, "<!DOCTYPE html"sv) || has_magic(bytes, "<!doctype html"sv) ||
      has_magic(bytes, "<html"sv)) {
    return "HTML, a page of the web and not the image on it";
  }
  if (has_magic(bytes, "\xff\x0a"sv) || has_magic(bytes, "\0\0\0\x0cJXL "sv)) return "JPEG XL";
  if (has_magic(bytes, "\0\0\1\0"sv)) return "ICO";
  if (has_magic(bytes, "8BPS"sv)) return "PSD";
  if (has_magic(bytes, "<svg"sv) || has_magic(bytes, "<?xml"sv)) return "SVG or XML";
  if (has_magic(bytes, "\x76\x2f\x31\x01"sv)) return "OpenEXR";
  if (has_magic(bytes, "DICM"sv, 128)) return "DICOM";
  if (has_magic(bytes, "\0\0\0\x0cjP  "sv)) return "JPEG 2000";
  return "unknown";
}

// One colour channel with straight alpha `a` over an opaque background, with the integer arithmetic of
// Pillow's alpha_composite (weights with 7 extra bits, divided by 255 with rounding).
std::uint8_t blend(std::uint32_t colour, std::uint32_t a, std::uint32_t background) {
  const std::uint32_t sum = ((colour * a + background * (255 - a) + 128) << 7);
  return static_cast<std::uint8_t>((((sum >> 8) + sum) >> 8) >> 7);
}

at::Tensor flatten_alpha(const at::Tensor& pixels, Alpha alpha) {
  if (pixels.size(2) != 4) return pixels;
  at::Tensor out = at::empty({pixels.size(0), pixels.size(1), 3}, at::kByte);
  if (alpha == Alpha::kDrop) {
    pick_channels(as_mat(pixels), as_mat(out), {0, 1, 2});
    return out;
  }
  const std::int64_t count = pixels.size(0) * pixels.size(1);
  const auto* from = pixels.const_data_ptr<std::uint8_t>();
  auto* to = out.mutable_data_ptr<std::uint8_t>();
  const std::uint32_t background = alpha == Alpha::kOverWhite ? 255 : 0;
  for (std::int64_t i = 0; i < count; ++i, from += 4, to += 3) {
    for (int c = 0; c < 3; ++c) to[c] = blend(from[c], from[3], background);
  }
  return out;
}

std::string label_of(const Image& image) {
  if (const auto* path = std::get_if<std::filesystem::path>(&image.source)) {
    return label_of_file("image", *path);
  }
  return std::holds_alternative<EncodedImage>(image.source) ? "the encoded image" : "the pixel array";
}

// Two files that end alike and are of one size may be taken for one: they allow less work then.
std::uint64_t identity_of(Bytes bytes) {
  const Bytes end = bytes.last(std::min<std::size_t>(bytes.size(), 4096));
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(end.data()), end.size()}) +
         bytes.size();
}
std::uint64_t identity_of(const std::uint8_t* pixels) {
  return std::hash<const void*>()(pixels);
}

// Decoded pixels of the caller, copied: they may go away while the model still works.
at::Tensor copy_pixels(const Pixels& pixels, Alpha alpha, const Source& source) {
  if (!pixels.data) source.fail("has no data; give a uint8 array.");
  source.check_size(pixels.width, pixels.height);
  if (pixels.channels != 1 && pixels.channels != 3 && pixels.channels != 4) {
    source.fail(fmt::format("has {} channels; tte takes 1 (grey), 3 (RGB) or 4 (RGBA).", pixels.channels));
  }
  const std::int64_t count = std::int64_t{pixels.height} * pixels.width;
  source.budget.add_image(count * pixels.channels, identity_of(pixels.data.get()));
  source.work(count);
  const Budget::Loan loan = source.borrow(count * 3);
  const at::Tensor view = at::from_blob(const_cast<std::uint8_t*>(pixels.data.get()),
                                        {pixels.height, pixels.width, pixels.channels}, at::kByte);
  if (pixels.channels == 4) return flatten_alpha(view, alpha);
  if (pixels.channels == 3) return view.clone();
  at::Tensor grey = source.allocate(pixels.height, pixels.width, 3);
  pick_channels(as_mat(view), as_mat(grey), {0, 0, 0});
  return grey;
}

}  // namespace

std::string label_of_file(const char* kind, const std::filesystem::path& path) {
  return fmt::format("{} \"{}\"", kind, printable_path(path));
}

void Source::fail(std::string_view why) const {
  throw InputError(fmt::format("{} {}", label, why));
}

void Source::check_size(std::int64_t width, std::int64_t height) const {
  if (width < 1 || height < 1) {
    fail(fmt::format("says that it is {}x{} pixels (width x height): there is nothing to see.", width,
                     height));
  }
  // Libraries count rows and columns in ints.
  if (width > INT32_MAX || height > INT32_MAX || width > budget.limits().max_pixels / height) {
    fail(fmt::format(
        "says that it is {}x{} pixels (width x height), over the limit of {}; shrink it, or raise max_pixels "
        "of MediaLimits if the file is trusted.",
        width, height, budget.limits().max_pixels));
  }
  // The first is the image's; a decoder may check the size of its parts too.
  if (announced != nullptr && announced->width == 0) *announced = {height, width};
}

at::Tensor Source::allocate(std::int64_t height, std::int64_t width, int channels) const {
  check_size(width, height);
  const Budget::Loan loan = borrow(height * width * (channels + 3));
  return at::empty({height, width, channels}, at::kByte);
}

void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i, cmyk += 4, rgb += 3) {
    const std::uint32_t white = 255U - cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const std::uint32_t product = cmyk[c] * white + 128;
      const std::uint32_t ink = ((product >> 8) + product) >> 8;
      rgb[c] = static_cast<std::uint8_t>(white - std::min(white, ink));
    }
  }
}

at::Tensor decode_bytes(const Source& source, Alpha alpha) {
  if (source.bytes.empty()) source.fail("is empty (0 bytes); give one with content.");
  const Decoder decoder = find_decoder(source.bytes);
  if (decoder == nullptr) {
    source.fail(
        fmt::format("is not a JPEG, PNG, WebP, GIF, BMP or TIFF image (format: {}); convert it first.",
                    name_refused(source.bytes)));
  }
  try {
    const Decoded decoded = decoder(source);
    if (source.file != nullptr) source.file->upright = decoded.orientation == 1;
    return apply_orientation(flatten_alpha(decoded.pixels, alpha), decoded.orientation);
  } catch (const std::bad_alloc&) {
    source.fail("needs more memory than there is; shrink it.");
  } catch (const c10::Error& error) {
    if (base::is_out_of_memory(error)) source.fail("needs more memory than there is; shrink it.");
    source.fail(fmt::format("cannot be decoded: {}.", error.what_without_backtrace()));
  } catch (const cv::Exception& error) {
    source.fail(error.code == cv::Error::StsNoMem ? "needs more memory than there is; shrink it."
                                                  : fmt::format("cannot be decoded: {}.", error.err));
  }
}

at::Tensor decode_image(const Image& image, Budget& budget, const std::string& where, ImageFile* own) {
  Source source{budget, {}, where + label_of(image), image.alpha != Alpha::kDrop};
  source.file = own;
  if (const auto* path = std::get_if<std::filesystem::path>(&image.source)) {
    const File file(*path, source.label, budget.limits().max_file_bytes);
    const Budget::Loan loan = source.borrow(file.size());
    std::vector<std::uint8_t> bytes = file.read_all();
    source.bytes = bytes;
    budget.add_image(file.size(), file.identity());
    at::Tensor pixels = decode_bytes(source, image.alpha);
    if (own != nullptr) own->bytes = std::move(bytes);
    return pixels;
  }
  if (const auto* encoded = std::get_if<EncodedImage>(&image.source)) {
    if (!encoded->bytes || encoded->bytes->empty()) source.fail("is empty (0 bytes); give one with content.");
    const auto size = static_cast<std::int64_t>(encoded->bytes->size());
    if (size > budget.limits().max_file_bytes) {
      source.fail(fmt::format("has {} bytes, over the limit of {} (max_file_bytes of MediaLimits).", size,
                              budget.limits().max_file_bytes));
    }
    source.bytes = *encoded->bytes;
    budget.add_image(size, identity_of(source.bytes));
    at::Tensor pixels = decode_bytes(source, image.alpha);
    if (own != nullptr) own->bytes = *encoded->bytes;
    return pixels;
  }
  return copy_pixels(std::get<Pixels>(image.source), image.alpha, source);
}

std::optional<Announced> look_at(const Image& image, const MediaLimits& limits) {
  Announced found;
  found.label = label_of(image);
  if (const auto* pixels = std::get_if<Pixels>(&image.source)) {
    found.size = {pixels->height, pixels->width};
    found.bytes = std::int64_t{pixels->height} * pixels->width * pixels->channels;
    found.identity = identity_of(pixels->data.get());
    return found;
  }
  // Every decoder tells the size before it asks for work or memory, and here it gets neither.
  MediaLimits nothing = limits;
  nothing.max_item_bytes = nothing.max_item_pixels = 0;
  Budget none(nothing);
  Source source{none, {}, found.label};
  source.announced = &found.size;
  const auto told = [&](Bytes bytes) {
    source.bytes = bytes;
    try {
      (void)decode_bytes(source, Alpha::kDrop);
    } catch (const InputError&) {  // Always: there is no work to be had.
    }
    return found.size.width > 0;
  };
  if (const auto* encoded = std::get_if<EncodedImage>(&image.source)) {
    if (!encoded->bytes || !told(*encoded->bytes)) return std::nullopt;
    found.bytes = static_cast<std::int64_t>(encoded->bytes->size());
    found.identity = identity_of(*encoded->bytes);
    return found;
  }
  try {
    const File file(std::get<std::filesystem::path>(image.source), found.label, limits.max_file_bytes);
    found.bytes = file.size();
    found.identity = file.identity();
    std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min(file.size(), kHeadBytes)));
    head.resize(static_cast<std::size_t>(file.read(head.data(), 0, static_cast<std::int64_t>(head.size()))));
    if (told(head)) return found;
    if (file.size() > kHeadBytes && told(file.read_all())) return found;
  } catch (const InputError&) {
  } catch (const std::bad_alloc&) {
  }
  return std::nullopt;
}

}  // namespace tte::media
