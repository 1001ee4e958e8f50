#include "tte/thumbnails.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/fixture.h"
#include "expect_error.h"

namespace tte {
namespace {

using ::testing::HasSubstr;
using tte::testing::clip;
using tte::testing::message_of;
using tte::testing::pattern;

TEST(Thumbnails, AreSmallAndNeverEnlarged) {
  const auto large = thumbnails(pattern(300, 500), 100);
  ASSERT_EQ(large.size(), 1U);
  EXPECT_EQ(large[0].height, 60);
  EXPECT_EQ(large[0].width, 100);
  EXPECT_EQ(large[0].channels, 3);
  const auto tiny = thumbnails(pattern(3, 5), 100);
  EXPECT_EQ(tiny[0].height, 3);
  EXPECT_EQ(thumbnails(pattern(2, 900), 100)[0].height, 1);
}

TEST(Thumbnails, OfAVideoAreSomeOfItsFrames) {
  EXPECT_EQ(thumbnails(clip(9, 56, 56), 50, 4).size(), 4U);
  EXPECT_EQ(thumbnails(clip(3, 56, 56), 50, 4).size(), 3U);
  Video sampled = std::get<Video>(Part(clip(9, 56, 56)));
  sampled.num_frames = 2;
  EXPECT_EQ(thumbnails(sampled, 50, 5).size(), 5U);
  EXPECT_TRUE(thumbnails("a text", 50).empty());
}

TEST(Thumbnails, RefuseWhatModelsRefuse) {
  EXPECT_THAT(message_of<InputError>([] { (void)thumbnails(Image{"/nowhere/x.png"}, 50); }),
              HasSubstr("/nowhere/x.png"));
  EXPECT_THAT(message_of<InputError>([] { (void)thumbnails(pattern(9, 9), 0); }), HasSubstr("side is 0"));
  EXPECT_THAT(message_of<InputError>([] { (void)thumbnails(pattern(9, 9), 9, 0); }),
              HasSubstr("frames is 0"));
}

}  // namespace
}  // namespace tte
