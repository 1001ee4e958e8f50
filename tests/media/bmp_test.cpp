// Bitmaps of every kind against Pillow's pixels. tests/python/bitmaps.py writes the files and what to expect.
#include <gmock/gmock.h>

#include <charconv>

#include "media_test_util.h"

namespace tte::media::testing {
namespace {

Buffer from_hex(const std::string& text) {
  Buffer bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
  }
  return bytes;
}

TEST(Bmp, EveryKindEqualsPillows) {
  const base::Json bitmaps = base::read_json(data_folder() / "bitmaps.json");
  ASSERT_GE(bitmaps.size(), 110U);
  for (const auto& golden : bitmaps) {
    SCOPED_TRACE(golden.at("name").get<std::string>());
    const Buffer file = from_hex(golden.at("bytes"));
    for (const Alpha alpha : {Alpha::kDrop, Alpha::kOverWhite}) {
      const Buffer expected = from_hex(golden.at(alpha == Alpha::kDrop ? "drop" : "white"));
      if (expected.empty()) {
        const bool runs = golden.at("name").get<std::string>().find("rle") != std::string::npos;
        EXPECT_THAT(decode_error(file), ::testing::HasSubstr(runs ? "run-length compression" : "BMP"));
        continue;
      }
      const at::Tensor pixels = decode_image(encoded(file, alpha));
      ASSERT_EQ(pixels.sizes(),
                at::IntArrayRef({golden.at("height").get<int>(), golden.at("width").get<int>(), 3}));
      const auto* data = pixels.const_data_ptr<std::uint8_t>();
      EXPECT_EQ(Buffer(data, data + pixels.numel()), expected);
    }
  }
}

// Cut anywhere before the padding of the last row: never pixels that are not the file's.
TEST(Bmp, EveryKindTruncated) {
  const base::Json bitmaps = base::read_json(data_folder() / "bitmaps.json");
  for (const auto& golden : bitmaps) {
    SCOPED_TRACE(golden.at("name").get<std::string>());
    const Buffer file = from_hex(golden.at("bytes"));
    for (std::size_t size = 2; size + 8 < file.size(); size += 1 + file.size() / 40) {
      Buffer cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      decode_error(std::move(cut));
    }
  }
}

}  // namespace
}  // namespace tte::media::testing
