#include "models/qwen/sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "media/media_test_util.h"

namespace tte::models::qwen {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

TEST(SmartResize, EqualsTransformers) {
  for (const auto& row : media::testing::goldens().at("smart_resize")) {
    VisualSpec spec;
    spec.patches.patch_size = row[0].get<int>() / 2;
    spec.min_pixels = row[1];
    spec.max_pixels = row[2];
    const Size size = smart_resize({row[3], row[4]}, spec);
    EXPECT_EQ(size.height, row[5].get<std::int64_t>()) << row;
    EXPECT_EQ(size.width, row[6].get<std::int64_t>()) << row;
  }
}

TEST(SmartResize, Refuses) {
  const auto error = [](Size size) {
    return message_of<InputError>([&] { smart_resize(size, VisualSpec{}); });
  };
  EXPECT_THAT(error({1, 201}), AllOf(HasSubstr("201x1"), HasSubstr("201.0")));
  EXPECT_THAT(error({4021, 20}), HasSubstr("20x4021"));
  EXPECT_THAT(error({0, 10}), HasSubstr("no pixels"));
  EXPECT_EQ(smart_resize({1, 200}, VisualSpec{}).height, 28);
}

TEST(QwenSizes, WithoutResizingASideMustFit) {
  VisualSpec fixed;
  fixed.do_resize = false;
  EXPECT_THAT(message_of<InputError>([&] { image_size({56, 60}, fixed); }), HasSubstr("60x56"));
  EXPECT_EQ(image_size({56, 84}, fixed).width, 84);
}

TEST(QwenSizes, AnImageMayAskForItsOwnSize) {
  const auto grid = [](std::int64_t height, std::int64_t width, const Resize& wanted) {
    const Size size = image_size({height, width}, with_resize({}, wanted));
    return std::vector<std::int64_t>{size.height / 14, size.width / 14};
  };
  using Grid = std::vector<std::int64_t>;
  EXPECT_EQ(grid(560, 840, {.max_pixels = 56 * 84}), (Grid{4, 6}));
  EXPECT_EQ(grid(28, 28, {.min_pixels = 280 * 280}), (Grid{20, 20}));
  EXPECT_EQ(grid(100, 300, {.height = 84, .width = 140}), (Grid{6, 10}));
  EXPECT_EQ(grid(100, 300, {.max_pixels = 784, .height = 84, .width = 140}), (Grid{2, 2}));
  // One limit alone: the spec's other one gives way.
  EXPECT_EQ(with_resize({}, {.max_pixels = 100}).min_pixels, 100);
  EXPECT_EQ(with_resize({}, {.min_pixels = 5'000'000}).max_pixels, 5'000'000);
}

TEST(QwenSizes, ASizeThatCannotBeIsToldWithItsName) {
  const auto told = [](const Resize& wanted, const VisualSpec& spec = {}) {
    return message_of<InputError>([&] { (void)with_resize(spec, wanted); });
  };
  EXPECT_THAT(told({.min_pixels = 0}), HasSubstr("min_pixels is 0"));
  EXPECT_THAT(told({.max_pixels = std::int64_t{1} << 40}), HasSubstr("max_pixels is 1099511627776"));
  EXPECT_THAT(told({.min_pixels = 9, .max_pixels = 8}), HasSubstr("at most max_pixels (8)"));
  EXPECT_THAT(told({.height = -1, .width = 9}), HasSubstr("resized_height is -1"));
  EXPECT_THAT(told({.height = 9}), HasSubstr("go together"));
  VisualSpec fixed;
  fixed.do_resize = false;
  EXPECT_THAT(told({.max_pixels = 900}, fixed), HasSubstr("does not resize"));
}

}  // namespace
}  // namespace tte::models::qwen
