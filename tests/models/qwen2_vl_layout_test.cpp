#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "expect_error.h"
#include "models/qwen2_vl/layout.h"
#include "tte/error.h"

namespace tte::models::qwen2_vl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using Position = std::array<std::int64_t, 3>;

constexpr std::int64_t kImage = 90, kVideo = 91;

QwenLayout make_layout() {
  Config config;
  config.text.vocab_size = 100;
  config.image_token = kImage;
  config.video_token = kVideo;
  return {config, {}};
}

std::shared_ptr<const Visual> visual(bool video, std::int64_t t, std::int64_t h, std::int64_t w) {
  auto made = std::make_shared<Visual>();
  made->video = video;
  made->patches.t = t;
  made->patches.h = h;
  made->patches.w = w;
  return made;
}

TEST(Qwen2VlLayout, TextCountsUp) {
  const Prompt prompt = make_layout().layout({3, 4, 5}, {});
  EXPECT_THAT(prompt.ids, ElementsAre(3, 4, 5));
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{1, 1, 1}, Position{2, 2, 2}));
  EXPECT_EQ(prompt.next_position, 3);
  EXPECT_TRUE(prompt.visual_tokens.empty());
}

TEST(Qwen2VlLayout, NothingIsAPromptOfNothing) {
  const Prompt prompt = make_layout().layout({}, {});
  EXPECT_EQ(prompt.size(), 0);
  EXPECT_EQ(prompt.next_position, 0);
}

TEST(Qwen2VlLayout, AnImageIsAGrid) {
  const Prompt prompt = make_layout().layout({3, kImage, 4}, {visual(false, 1, 4, 6)});
  EXPECT_THAT(prompt.ids, ElementsAre(3, kImage, kImage, kImage, kImage, kImage, kImage, 4));
  EXPECT_THAT(prompt.positions,
              ElementsAre(Position{0, 0, 0}, Position{1, 1, 1}, Position{1, 1, 2}, Position{1, 1, 3},
                          Position{1, 2, 1}, Position{1, 2, 2}, Position{1, 2, 3}, Position{4, 4, 4}));
  EXPECT_EQ(prompt.kinds[0], TokenKind::kText);
  EXPECT_EQ(prompt.kinds[6], TokenKind::kImage);
  EXPECT_EQ(prompt.next_position, 5);
  EXPECT_THAT(prompt.visual_tokens, ElementsAre(6));
}

TEST(Qwen2VlLayout, TextResumesBelowALongVideo) {
  const Prompt prompt = make_layout().layout({kVideo, 4}, {visual(true, 5, 2, 2)});
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{1, 0, 0}, Position{2, 0, 0},
                                            Position{3, 0, 0}, Position{4, 0, 0}, Position{1, 1, 1}));
  EXPECT_EQ(prompt.kinds[0], TokenKind::kVideo);
  EXPECT_EQ(prompt.next_position, 2) << "a generated token stands where the prompt's next one would";
}

TEST(Qwen2VlLayout, VisualsThatDoNotMatchThePrompt) {
  const QwenLayout layout = make_layout();
  EXPECT_THAT(message_of<InputError>([&] {
                (void)layout.layout({3, kImage, kImage}, {visual(false, 1, 4, 4)});
              }),
              AllOf(HasSubstr("2 image and video placeholders"), HasSubstr("1 images")));
  EXPECT_THAT(message_of<InputError>([&] { (void)layout.layout({3}, {visual(false, 1, 4, 4)}); }),
              HasSubstr("has 0"));
  EXPECT_THAT(message_of<InputError>([&] {
                (void)layout.layout({kImage, kVideo}, {visual(false, 1, 4, 4), visual(false, 1, 4, 4)});
              }),
              AllOf(HasSubstr("Placeholder 2"), HasSubstr("video")));
  EXPECT_THAT(message_of<InputError>([&] { (void)layout.layout({kImage}, {visual(false, 1, 3, 4)}); }),
              AllOf(HasSubstr("1 x 3 x 4"), HasSubstr("multiples of 2")));
}

TEST(Qwen2VlLayout, IdsOutsideOfTheVocabulary) {
  const QwenLayout layout = make_layout();
  EXPECT_THAT(message_of<InputError>([&] {
                (void)layout.layout({3, 100}, {});
              }),
              AllOf(HasSubstr("100"), HasSubstr("vocabulary")));
  EXPECT_THAT(message_of<InputError>([&] { (void)layout.layout({-1}, {}); }), HasSubstr("-1"));
}

}  // namespace
}  // namespace tte::models::qwen2_vl
