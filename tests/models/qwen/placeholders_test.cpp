#include "models/qwen/placeholders.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::models::qwen {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using Position = std::array<std::int64_t, 3>;

constexpr std::int64_t kImage = 90, kVideo = 91;

// `step`: positions between two temporal patches.
Prompt expand(
    const std::vector<std::int64_t>& ids, Visuals visuals,
    const TimeStep& step = [](const Visual&) { return 1.0F; }) {
  return expand_placeholders(ids, std::move(visuals), {kImage, kVideo, 100, 2}, step);
}

std::shared_ptr<const Visual> visual(bool video, std::int64_t t, std::int64_t h, std::int64_t w) {
  auto made = std::make_shared<Visual>();
  made->video = video;
  made->patches.t = t;
  made->patches.h = h;
  made->patches.w = w;
  return made;
}

TEST(QwenPlaceholders, TextCountsUp) {
  const Prompt prompt = expand({3, 4, 5}, {});
  EXPECT_THAT(prompt.ids, ElementsAre(3, 4, 5));
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{1, 1, 1}, Position{2, 2, 2}));
  EXPECT_EQ(prompt.next_position, 3);
  EXPECT_TRUE(prompt.visual_tokens.empty());
}

TEST(QwenPlaceholders, NothingIsAPromptOfNothing) {
  const Prompt prompt = expand({}, {});
  EXPECT_EQ(prompt.size(), 0);
  EXPECT_EQ(prompt.next_position, 0);
}

TEST(QwenPlaceholders, AnImageIsAGrid) {
  const Prompt prompt = expand({3, kImage, 4}, {visual(false, 1, 4, 6)});
  EXPECT_THAT(prompt.ids, ElementsAre(3, kImage, kImage, kImage, kImage, kImage, kImage, 4));
  EXPECT_THAT(prompt.positions,
              ElementsAre(Position{0, 0, 0}, Position{1, 1, 1}, Position{1, 1, 2}, Position{1, 1, 3},
                          Position{1, 2, 1}, Position{1, 2, 2}, Position{1, 2, 3}, Position{4, 4, 4}));
  EXPECT_EQ(prompt.kinds[0], base::Modality::kText);
  EXPECT_EQ(prompt.kinds[6], base::Modality::kImage);
  EXPECT_EQ(prompt.next_position, 5);
  EXPECT_THAT(prompt.visual_tokens, ElementsAre(6));
}

TEST(QwenPlaceholders, TextResumesBelowALongVideo) {
  const Prompt prompt = expand({kVideo, 4}, {visual(true, 5, 2, 2)});
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{1, 0, 0}, Position{2, 0, 0},
                                            Position{3, 0, 0}, Position{4, 0, 0}, Position{1, 1, 1}));
  EXPECT_EQ(prompt.kinds[0], base::Modality::kVideo);
  EXPECT_EQ(prompt.next_position, 2) << "a generated token stands where the prompt's next one would";
}

// Half a second a temporal patch, at 5 positions a second: 2.5 positions, rounded down.
TEST(QwenPlaceholders, TimeCanStepFurther) {
  const Prompt prompt = expand({kVideo, 4}, {visual(true, 4, 2, 2)}, [](const Visual&) { return 2.5F; });
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{2, 0, 0}, Position{5, 0, 0},
                                            Position{7, 0, 0}, Position{1, 1, 1}));
}

TEST(QwenPlaceholders, VisualsThatDoNotMatchThePrompt) {
  EXPECT_THAT(message_of<InputError>([&] {
                (void)expand({3, kImage, kImage}, {visual(false, 1, 4, 4)});
              }),
              AllOf(HasSubstr("2 image and video placeholders"), HasSubstr("1 images")));
  EXPECT_THAT(message_of<InputError>([&] { (void)expand({3}, {visual(false, 1, 4, 4)}); }),
              HasSubstr("has 0"));
  EXPECT_THAT(message_of<InputError>([&] {
                (void)expand({kImage, kVideo}, {visual(false, 1, 4, 4), visual(false, 1, 4, 4)});
              }),
              AllOf(HasSubstr("Placeholder 2"), HasSubstr("video")));
  EXPECT_THAT(message_of<InputError>([&] { (void)expand({kImage}, {visual(false, 1, 3, 4)}); }),
              AllOf(HasSubstr("1 x 3 x 4"), HasSubstr("multiples of 2")));
}

TEST(QwenPlaceholders, IdsOutsideOfTheVocabulary) {
  EXPECT_THAT(message_of<InputError>([&] {
                (void)expand({3, 100}, {});
              }),
              AllOf(HasSubstr("100"), HasSubstr("vocabulary")));
  EXPECT_THAT(message_of<InputError>([&] { (void)expand({-1}, {}); }), HasSubstr("-1"));
}

}  // namespace
}  // namespace tte::models::qwen
