#include "media/exif.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>

#include "media_test_util.h"

namespace tte::media::testing {
namespace {

// An EXIF block with one directory of one entry.
Buffer block(bool big_endian, std::uint32_t tag, std::uint32_t type, std::uint32_t count,
             std::uint32_t value) {
  Buffer bytes = big_endian ? Buffer{'M', 'M', 0, '*'} : Buffer{'I', 'I', '*', 0};
  const auto put = [&](std::uint32_t number, int size) {
    for (int i = 0; i < size; ++i) {
      bytes.push_back(static_cast<std::uint8_t>(number >> (8 * (big_endian ? size - 1 - i : i))));
    }
  };
  put(8, 4);
  put(1, 2);
  put(tag, 2);
  put(type, 2);
  put(count, 4);
  const int value_bytes = type == 1 || type == 6 ? 1 : type == 3 || type == 8 ? 2 : 4;
  put(value, value_bytes);
  put(0, 4 - value_bytes);
  put(0, 4);
  return bytes;
}

// tests/python/test_items.py compares more of them with Pillow.
TEST(Exif, OrientationInBothByteOrdersAndAllTypesOfNumbers) {
  for (const bool big_endian : {false, true}) {
    for (const std::uint32_t type : {3U, 4U, 6U, 8U, 9U, 13U}) {
      EXPECT_EQ(exif_orientation(block(big_endian, 0x112, type, 1, 6)), 6) << type;
    }
    EXPECT_EQ(exif_orientation(block(big_endian, 0x112, 11, 1, std::bit_cast<std::uint32_t>(6.0F))), 6);
    for (const std::uint32_t type : {1U, 2U, 7U}) {  // Bytes and text.
      EXPECT_EQ(exif_orientation(block(big_endian, 0x112, type, 1, 6)), 0) << type;
    }
  }
  Buffer prefixed = {'E', 'x', 'i', 'f', 0, 0};
  const Buffer plain = block(true, 0x112, 3, 1, 8);
  prefixed.insert(prefixed.end(), plain.begin(), plain.end());
  EXPECT_EQ(exif_orientation(prefixed), 8);
}

TEST(Exif, BlocksThatDoNotSay) {
  EXPECT_EQ(exif_orientation({}), std::nullopt);
  EXPECT_EQ(exif_orientation(block(false, 0x110, 3, 1, 6)), std::nullopt);   // Another tag.
  EXPECT_EQ(exif_orientation(block(false, 0x112, 14, 1, 6)), std::nullopt);  // There is no such type.
  EXPECT_EQ(exif_orientation(block(false, 0x112, 3, 0, 6)), std::nullopt);   // No value.
  EXPECT_EQ(exif_orientation(block(false, 0x112, 5, 1, 8)), 0);              // A quotient that is none.
  EXPECT_EQ(exif_orientation(block(false, 0x112, 5, 1, 99)), std::nullopt);  // Elsewhere than in the block.
  EXPECT_EQ(exif_orientation(block(false, 0x112, 9, 1, 0xFFFFFFFF)), 0);
  const std::string_view xmp = "tiff:Orientation=\"6\"";
  const Bytes xmp_bytes(reinterpret_cast<const std::uint8_t*>(xmp.data()), xmp.size());
  EXPECT_EQ(choose_orientation(block(false, 0x110, 3, 1, 3), xmp_bytes), 6);
  EXPECT_EQ(choose_orientation(block(false, 0x112, 3, 1, 0), xmp_bytes),
            1);  // It says, and nothing that turns.
  EXPECT_EQ(choose_orientation(block(false, 0x112, 3, 1, 9), {}), 1);
  EXPECT_EQ(choose_orientation(block(false, 0x112, 4, 1, 0xFFFFFFFF), {}), 1);
}

TEST(Exif, DamagedBlocksAreReadWithinTheirBounds) {
  const Buffer whole = block(false, 0x112, 3, 1, 6);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Buffer cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(exif_orientation(cut).value_or(0), size >= 22 ? 6 : 0) << size;
  }
  Buffer bytes = whole;
  bytes[4] = bytes[5] = bytes[6] = bytes[7] = 0xFF;  // A directory far outside.
  EXPECT_EQ(exif_orientation(bytes), std::nullopt);
  bytes = whole;
  bytes[8] = bytes[9] = 0xFF;  // More entries than there are.
  EXPECT_EQ(exif_orientation(bytes), 6);
}

TEST(Exif, XmpSaysItInTwoWays) {
  const auto xmp = [](std::string_view text) {
    return xmp_orientation(Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  };
  EXPECT_EQ(xmp("<a tiff:Orientation=\"3\"/>"), 3);
  EXPECT_EQ(xmp("<tiff:Orientation>5</tiff:Orientation>"), 5);
  EXPECT_EQ(xmp("tiff:Orientation tiff:Orientation=\"8\""), 8);
  EXPECT_EQ(xmp("tiff:Orientation=\""), 0);
  EXPECT_EQ(xmp("tiff:Orientation=\"x\""), 0);
  EXPECT_EQ(xmp("tiff:Orientation"), 0);
  EXPECT_EQ(xmp(""), 0);
}

TEST(Exif, EveryOrientationTurnsTheImage) {
  // 1 2 3     The corner that is first after turning, and the one next to it in its row.
  // 4 5 6
  const at::Tensor grid = at::arange(1, 7, at::kByte).reshape({2, 3, 1});
  const std::array<std::vector<int>, 9> expected = {{{},
                                                     {1, 2, 3, 4, 5, 6},
                                                     {3, 2, 1, 6, 5, 4},
                                                     {6, 5, 4, 3, 2, 1},
                                                     {4, 5, 6, 1, 2, 3},
                                                     {1, 4, 2, 5, 3, 6},
                                                     {4, 1, 5, 2, 6, 3},
                                                     {6, 3, 5, 2, 4, 1},
                                                     {3, 6, 2, 5, 1, 4}}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const at::Tensor turned = apply_orientation(grid, orientation);
    ASSERT_TRUE(turned.is_contiguous());
    EXPECT_EQ(turned.size(0), orientation < 5 ? 2 : 3);
    const auto* p = turned.const_data_ptr<std::uint8_t>();
    EXPECT_EQ(std::vector<int>(p, p + 6), expected[orientation]) << orientation;
  }
}

}  // namespace
}  // namespace tte::media::testing
