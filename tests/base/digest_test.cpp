#include "base/digest.h"

#include <gtest/gtest.h>

#include <string>
#include <unordered_set>

namespace tte::base {
namespace {

Digest of(std::string_view bytes) {
  return Digester().bytes(bytes.data(), bytes.size()).finish();
}

TEST(Digest, IsXxh3OfTheBytes) {
  // Published by the xxHash specification for the empty input with seed 0.
  EXPECT_EQ(Digester().finish().hex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(of("").hex(), "99aa06d3014798d86001c324468d497f");
}

TEST(Digest, DoesNotDependOnHowTheBytesWereCut) {
  std::string data(100'000, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 + i / 257);
  const Digest whole = of(data);
  for (const std::size_t step : {1UL, 7UL, 1024UL, 99'999UL}) {
    Digester digester;
    for (std::size_t i = 0; i < data.size(); i += step)
      digester.bytes(data.data() + i, std::min(step, data.size() - i));
    EXPECT_EQ(digester.finish(), whole) << "in steps of " << step;
  }
}

TEST(Digest, TextsKnowTheirLengths) {
  EXPECT_NE(Digester().text("a").text("bc").finish(), Digester().text("ab").text("c").finish());
  EXPECT_NE(Digester().text("").finish(), Digester().finish());
}

TEST(Digest, NumbersAreEightLittleEndianBytes) {
  EXPECT_EQ(Digester().number(0x0102030405060708).finish(), of("\x08\x07\x06\x05\x04\x03\x02\x01"));
  EXPECT_EQ(Digester().number(-1).finish(), of("\xff\xff\xff\xff\xff\xff\xff\xff"));
}

TEST(Digest, FinishCanBeAskedTwiceAndGoesOn) {
  Digester digester;
  digester.text("x");
  const Digest first = digester.finish();
  EXPECT_EQ(digester.finish(), first);
  EXPECT_NE(digester.text("y").finish(), first);
}

TEST(Digest, IsAKey) {
  std::unordered_set<Digest> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(Digester().number(i).finish());
  EXPECT_EQ(seen.size(), 1000U);
  EXPECT_EQ(of("a").hex().size(), 32U);
}

}  // namespace
}  // namespace tte::base
