// Damaged and malicious images: each must end in an InputError that names the item, never in a crash or in
// pixels that are not the file's.
#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "media_test_util.h"

namespace tte::media::testing {
namespace {

using ::testing::HasSubstr;

Buffer buffer(std::string_view text) {
  return Buffer(text.begin(), text.end());
}

void put_big_endian(Buffer& bytes, std::size_t at, std::uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * (size - 1 - i)));
}

void put_little_endian(Buffer& bytes, std::size_t at, std::uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint32_t crc32(const std::uint8_t* data, std::size_t size) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

// rgb.png with other sides in a header whose checksum is right.
Buffer png_of_size(std::uint32_t width, std::uint32_t height) {
  Buffer bytes = read_image("rgb.png");
  put_big_endian(bytes, 16, width, 4);
  put_big_endian(bytes, 20, height, 4);
  put_big_endian(bytes, 29, crc32(bytes.data() + 12, 17), 4);
  return bytes;
}

// A JPEG with other sides in its frame header.
Buffer jpeg_of_size(const std::string& name, std::uint32_t width, std::uint32_t height) {
  Buffer bytes = read_image(name);
  for (std::size_t at = 2; at + 9 < bytes.size(); at += 2 + (bytes[at + 2] << 8 | bytes[at + 3])) {
    if (bytes[at + 1] == 0xC0 || bytes[at + 1] == 0xC2) {
      put_big_endian(bytes, at + 5, height, 2);
      put_big_endian(bytes, at + 7, width, 2);
      return bytes;
    }
  }
  ADD_FAILURE() << name << " has no frame header";
  return bytes;
}

// A little-endian TIFF of one directory; entries are {tag, type, count, value}.
Buffer tiff(const std::vector<std::array<std::uint32_t, 4>>& entries, std::uint32_t next = 0) {
  Buffer bytes(8 + 2 + entries.size() * 12 + 4 + 16);
  std::copy_n("II*\0", 4, bytes.begin());
  put_little_endian(bytes, 4, 8, 4);
  put_little_endian(bytes, 8, static_cast<std::uint32_t>(entries.size()), 2);
  std::size_t at = 10;
  for (const auto& [tag, type, count, value] : entries) {
    put_little_endian(bytes, at, tag, 2);
    put_little_endian(bytes, at + 2, type, 2);
    put_little_endian(bytes, at + 4, count, 4);
    put_little_endian(bytes, at + 8, value, 4);
    at += 12;
  }
  put_little_endian(bytes, at, next, 4);
  return bytes;
}

TEST(HostileImage, OtherFormatsDoNotReachADecoder) {
  Buffer dicom(200);
  std::copy_n("DICM", 4, dicom.begin() + 128);
  const struct {
    Buffer bytes;
    const char* name;
  } cases[] = {
      {buffer("hello, this is text"), "unknown"},
      {buffer("<svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG"},
      {buffer("%PDF-1.7\n"), "PDF"},
      {buffer(std::string_view("\0\0\0\x18"
                               "ftypheic\0\0\0\0mif1heic",
                               24)),
       "HEIC"},
      {buffer(std::string_view("\0\0\0\x18"
                               "ftypavif\0\0\0\0",
                               16)),
       "AVIF"},
      {dicom, "DICOM"},
      {buffer("NITF02.10"), "unknown"},
      {buffer("\x76\x2f\x31\x01 exr"), "OpenEXR"},
      {buffer("#?RADIANCE\n"), "unknown"},
      {buffer("P6 1 1 255\nabc"), "unknown"},
      {buffer("\xff"), "unknown"},
      {buffer("\x89PNG"), "unknown"},
      {buffer("RIFF\x10\0\0\0WAVE"), "unknown"},
      {Buffer(1000, 0), "unknown"},
  };
  for (const auto& c : cases) EXPECT_THAT(decode_error(c.bytes), HasSubstr(c.name));
  EXPECT_THAT(decode_error({}), HasSubstr("is empty"));
}

TEST(HostileImage, RandomBytesAfterEveryMagic) {
  std::mt19937 random(7);
  for (const std::string_view magic :
       {std::string_view("\xff\xd8\xff\xe0"), std::string_view("\x89PNG\r\n\x1a\n"),
        std::string_view("RIFFxxxxWEBP"), std::string_view("GIF89a"), std::string_view("BM"),
        std::string_view("II*\0", 4), std::string_view("MM\0*", 4), std::string_view("II+\0", 4)}) {
    for (int round = 0; round < 50; ++round) {
      Buffer bytes = buffer(magic);
      for (int i = 0; i < 300; ++i) bytes.push_back(static_cast<std::uint8_t>(random()));
      MediaLimits limits;
      limits.max_pixels = 1'000'000;
      decode_error(bytes, limits);
    }
  }
}

TEST(HostileImage, TruncatedAnywhere) {
  for (const char* name :
       {"rgb420.jpg", "rgb444_progressive.jpg", "grey.jpg", "cmyk.jpg", "restart.jpg", "rgb.png",
        "interlaced.png", "lossy.webp", "lossless.webp", "animated.webp", "rgb.bmp", "palette.bmp", "raw.tif",
        "exif5.tif", "palette_packbits.tif", "jpeg.tif", "palette.gif"}) {
    const Buffer whole = read_image(name);
    // Pillow too reads a PNG without its last chunks (16 bytes), a BMP without the padding of its last row,
    // and takes no notice of what follows a GIF's or an animation's first frame.
    std::size_t end = whole.size() - 1;
    if (std::string_view(name).ends_with(".png")) end = whole.size() - 20;
    if (std::string_view(name).ends_with(".bmp")) end = whole.size() - 4;
    if (std::string_view(name).ends_with(".gif")) end = whole.size() - 3;
    for (std::size_t size = 1; size <= end; size += std::max<std::size_t>(1, whole.size() / 60)) {
      SCOPED_TRACE(fmt::format("{} cut to {} of {} bytes", name, size, whole.size()));
      decode_error(Buffer(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
    }
  }
  Buffer jpeg = read_image("rgb420.jpg");
  jpeg.erase(jpeg.end() - 2, jpeg.end());
  EXPECT_THAT(decode_error(jpeg), HasSubstr("truncated JPEG"));
}

TEST(HostileImage, TrailingBytesAreHarmless) {
  for (const char* name : {"rgb420.jpg", "rgb.png", "lossy.webp", "palette.gif", "rgb.bmp", "raw.tif"}) {
    Buffer bytes = read_image(name);
    const at::Tensor clean = decode_image(encoded(bytes));
    bytes.insert(bytes.end(), 100, 0xAB);
    EXPECT_TRUE(at::equal(clean, decode_image(encoded(bytes)))) << name;
  }
}

TEST(HostileImage, BadChecksum) {
  Buffer bytes = read_image("rgb.png");
  bytes[bytes.size() - 20] ^= 1;  // In the image data, whose checksum then fails.
  EXPECT_THAT(decode_error(bytes), HasSubstr("PNG"));
  bytes = read_image("rgb.png");
  bytes[29] ^= 1;  // The checksum of the header.
  EXPECT_THAT(decode_error(bytes), HasSubstr("CRC"));
}

TEST(HostileImage, SizesAreCheckedBeforeDecoding) {
  const auto refuses = [](Buffer bytes, const char* what) {
    EXPECT_THAT(decode_error(std::move(bytes)), HasSubstr(what));
  };
  refuses(png_of_size(30000, 30000), "30000x30000");
  refuses(png_of_size(0x7fffffff, 0x7fffffff), "2147483647x2147483647");
  refuses(png_of_size(0, 5), "PNG");
  refuses(jpeg_of_size("rgb420.jpg", 65000, 65000), "65000x65000");
  refuses(jpeg_of_size("rgb444_progressive.jpg", 60000, 60000), "60000x60000");
  refuses(jpeg_of_size("rgb420.jpg", 0, 10), "JPEG");
  Buffer gif = read_image("palette.gif");
  put_little_endian(gif, 6, 65535, 2);
  put_little_endian(gif, 8, 65535, 2);
  refuses(gif, "65535x65535");
  Buffer bmp = read_image("rgb.bmp");
  put_little_endian(bmp, 18, 100000, 4);
  put_little_endian(bmp, 22, 100000, 4);
  refuses(bmp, "100000x100000");
  put_little_endian(bmp, 18, 0xFFFFFFFF, 4);
  refuses(bmp, "4294967295x100000");
  put_little_endian(bmp, 18, 0, 4);
  refuses(bmp, "0x100000");
  Buffer raw = read_image("raw.tif");
  const std::uint32_t directory = raw[4] | raw[5] << 8 | raw[6] << 16;
  put_little_endian(raw, directory + 2 + 8, 60000, 4);  // The first two entries: the sides.
  put_little_endian(raw, directory + 2 + 12 + 8, 60000, 4);
  refuses(raw, "60000x60000");
  Buffer webp =
      read_image("animated.webp");  // "VP8X": flags, 3 reserved, then the canvas less one, 24 bits each.
  put_little_endian(webp, 24, 16000, 3);
  put_little_endian(webp, 27, 16000, 3);
  refuses(webp, "16001x16001");
  MediaLimits limits;
  limits.max_pixels = 17 * 11;
  decode_image(encoded(read_image("rgb420.jpg")), limits);
  limits.max_pixels = 17 * 11 - 1;
  for (const char* name : {"rgb420.jpg", "rgb.png", "lossy.webp", "palette.gif", "rgb.bmp", "raw.tif"}) {
    EXPECT_THAT(decode_error(read_image(name), limits), HasSubstr("17x11")) << name;
  }
}

// A header that promises more than the file has must not cost the memory that it promises, only an error.
TEST(HostileImage, SizesWithinTheLimitButWithoutData) {
  decode_error(png_of_size(9000, 9000));
  Buffer bmp = read_image("rgb.bmp");
  put_little_endian(bmp, 18, 9000, 4);
  put_little_endian(bmp, 22, 9000, 4);
  EXPECT_THAT(decode_error(bmp), HasSubstr("truncated"));
}

TEST(HostileImage, TiffDirectories) {
  using Entries = std::vector<std::array<std::uint32_t, 4>>;
  const Entries image = {{256, 4, 1, 2}, {257, 4, 1, 2}, {258, 3, 1, 8}, {259, 3, 1, 1}, {262, 3, 1, 1},
                         {273, 4, 1, 8}, {277, 3, 1, 1}, {278, 4, 1, 2}, {279, 4, 1, 4}};
  EXPECT_EQ(decode_image(encoded(tiff(image))).size(0), 2);  // The good one.
  EXPECT_EQ(decode_image(encoded(tiff(image, 8))).size(0),
            2);  // Its next directory is itself: not looked at.
  const auto with = [&](std::uint32_t tag, std::uint32_t type, std::uint32_t count, std::uint32_t value) {
    Entries entries = image;
    const auto it = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e[0] >= tag; });
    if (it != entries.end() && (*it)[0] == tag) {
      *it = {tag, type, count, value};
    } else {
      entries.insert(it, {tag, type, count, value});
    }
    return tiff(entries);
  };
  const std::array<std::uint32_t, 4> bad[] = {
      {256, 4, 1, 0},
      {256, 4, 0x40000000, 8},  // A count that is larger than the file.
      {258, 3, 1, 32},          // Bits that are not read.
      {258, 3, 1, 3},
      {259, 3, 1, 6},             // Old JPEG.
      {259, 3, 1, 7},             // JPEG, but there is none.
      {259, 3, 1, 5},             // LZW of garbage.
      {259, 3, 1, 12345},         // No such compression.
      {262, 3, 1, 2},             // RGB in one sample.
      {262, 3, 1, 3},             // A palette that is missing.
      {262, 3, 1, 8},             // CIE L*a*b*.
      {273, 4, 1, 0xFFFFFF00},    // Data past the end.
      {277, 3, 1, 60000},         // Samples without end.
      {320, 3, 768, 0x00FFFF00},  // A palette past the end.
      {339, 3, 1, 3},             // Floating point.
  };
  for (const auto& [tag, type, count, value] : bad) {
    SCOPED_TRACE(fmt::format("tag {}, type {}, count {}, value {}", tag, type, count, value));
    decode_error(with(tag, type, count, value));
  }
  Buffer huge = tiff(image);
  put_little_endian(huge, 8, 65535, 2);  // More entries than bytes.
  decode_error(huge);
  put_little_endian(huge, 4, 0xFFFFFFF0, 4);  // The directory itself past the end.
  decode_error(huge);
}

// Every single-bit change of small files: an error or pixels, never a crash. (Run under the sanitizers too.)
TEST(HostileImage, FlippedBits) {
  MediaLimits limits;
  limits.max_pixels = 4'000'000;
  std::mt19937 random(11);
  for (const auto& golden : goldens().at("images")) {
    const Buffer whole = read_image(golden.at("file"));
    for (int round = 0; round < 60; ++round) {
      Buffer bytes = whole;
      bytes[random() % bytes.size()] ^= static_cast<std::uint8_t>(1U << random() % 8);
      try {
        const at::Tensor pixels =
            decode_image(encoded(bytes, round % 2 == 0 ? Alpha::kDrop : Alpha::kOverWhite), limits);
        EXPECT_EQ(pixels.size(2), 3);
      } catch (const InputError&) {
      }
    }
  }
}

}  // namespace
}  // namespace tte::media::testing
