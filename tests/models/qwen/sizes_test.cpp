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
  EXPECT_THAT(error({1, 201}), AllOf(HasSubstr("201x1"), HasSubstr("ratio of 201,")));
  EXPECT_THAT(error({4021, 20}), HasSubstr("20x4021"));
  EXPECT_THAT(error({0, 10}), HasSubstr("no pixels"));
  EXPECT_EQ(smart_resize({1, 200}, VisualSpec{}).height, 28);
}

// The numbers are those of transformers' Qwen3VLVideoProcessor.resize.
TEST(QwenSizes, AClipSharesItsPixels) {
  struct Case {
    std::int64_t frames;
    Size frame;
    std::int64_t least, most;
    bool cap;
    std::int64_t tokens;
    std::int64_t height, width;
  };
  for (const Case& c : {Case{4, {84, 112}, 4096, 98304, false, 768, 96, 128},
                        Case{3, {84, 112}, 4096, 98304, false, 768, 96, 128},
                        Case{5, {480, 640}, 131072, 786432, false, 768, 320, 448},
                        Case{8, {1080, 1920}, 131072, 25165824, false, 768, 1088, 1920},
                        Case{8, {1080, 1920}, 131072, 25165824, true, 768, 640, 1152},
                        Case{64, {360, 640}, 131072, 786432, true, 16, 256, 480},
                        Case{2, {10, 400}, 4096, 98304, false, 768, 32, 1280},
                        Case{2, {17, 20}, 131072, 786432, false, 768, 256, 288},
                        Case{6, {31, 31}, 1024, 786432, false, 768, 32, 32},
                        Case{3, {32, 32}, 4096, 98304, false, 768, 32, 32}}) {
    VisualSpec spec;
    spec.patches.patch_size = 16;
    spec.min_pixels = c.least;
    spec.max_pixels = c.most;
    spec.cap_pixels_per_frame = c.cap;
    spec.max_video_tokens = c.tokens;
    const Size size = clip_size(c.frame, c.frames, spec);
    EXPECT_EQ(size.height, c.height) << c.frames << " frames of " << c.frame.height;
    EXPECT_EQ(size.width, c.width) << c.frames << " frames of " << c.frame.height;
  }
  EXPECT_THAT(message_of<InputError>([&] {
                clip_size({64, 64}, 1, VisualSpec{});
              }),
              AllOf(HasSubstr("1 frame is taken"), HasSubstr("groups of 2")));
  EXPECT_THAT(message_of<InputError>([&] {
                clip_size({1, 201}, 2, VisualSpec{});
              }),
              HasSubstr("aspect ratio"));
}

// The numbers are those of fetch_video of qwen-vl-utils 0.0.14.
TEST(QwenSizes, AFrameHasAShareOfTheTotal) {
  struct Case {
    std::int64_t frames;
    Size frame;
    int patch;
    double total_tokens;
    std::int64_t least, most;  // Tokens.
    std::int64_t height, width;
  };
  for (const Case& c :
       {Case{64, {480, 640}, 16, 115200, 128, 768, 480, 640},
        Case{64, {480, 640}, 16, 7680, 128, 768, 416, 544}, Case{7, {360, 480}, 16, 2304, 128, 768, 352, 480},
        Case{16, {1080, 1920}, 14, 115200, 128, 768, 560, 1008},
        Case{200, {720, 1280}, 14, 115200, 128, 768, 560, 1008},
        Case{2, {20, 20}, 16, 115200, 128, 768, 384, 384},
        Case{5, {300, 300}, 16, 115200, 16, 64, 256, 256}}) {
    VisualSpec spec;
    spec.patches.patch_size = c.patch;
    const std::int64_t token = std::int64_t{spec.factor()} * spec.factor();
    spec.min_pixels = c.least * token;
    spec.max_pixels = c.most * token;
    const Size size = utils_size(c.frame, c.frames, spec, c.total_tokens * static_cast<double>(token));
    EXPECT_EQ(size.height, c.height) << c.frames << " frames of " << c.frame.height;
    EXPECT_EQ(size.width, c.width) << c.frames << " frames of " << c.frame.height;
  }
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
