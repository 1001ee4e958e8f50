#include "models/frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "media/media_test_util.h"

namespace tte::models {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

TEST(SampleFrames, EqualsTransformers) {
  for (const auto& row : media::testing::goldens().at("sampling")) {
    SCOPED_TRACE(row.dump());
    FrameSampling rule{.min_frames = 4, .max_frames = 768};
    std::optional<double> source_fps;
    if (!row.at("fps").is_null()) rule.fps = row.at("fps").get<double>();
    if (!row.at("num_frames").is_null()) rule.num_frames = row.at("num_frames").get<int>();
    if (!row.at("source_fps").is_null()) source_fps = row.at("source_fps").get<double>();
    const int total = row.at("total");
    if (row.contains("error")) {
      message_of<InputError>([&] { sample_frames(total, source_fps, rule, 2); });
      continue;
    }
    const std::vector<int> indices = sample_frames(total, source_fps, rule, 2);
    if (row.contains("indices")) {
      EXPECT_EQ(indices, row.at("indices").get<std::vector<int>>());
    } else {
      EXPECT_EQ(indices.size(), row.at("count").get<std::size_t>());
      EXPECT_EQ(media::testing::fnv1a(at::tensor(indices, at::kInt)), row.at("digest").get<std::string>());
    }
  }
}

TEST(SampleFrames, RulesThatMakeNoSense) {
  const auto sample_error = [](int total, std::optional<double> fps, std::optional<int> count) {
    FrameSampling rule;
    rule.fps = fps;
    rule.num_frames = count;
    return message_of<InputError>([&] { sample_frames(total, std::nullopt, rule, 2); });
  };
  EXPECT_THAT(sample_error(10, 1.0, 4), HasSubstr("not by both"));
  EXPECT_THAT(sample_error(10, 1.0, {}), HasSubstr("source_fps"));
  EXPECT_THAT(sample_error(10, 0.0, {}), HasSubstr("positive"));
  EXPECT_THAT(sample_error(10, -1.0, {}), HasSubstr("positive"));
  EXPECT_THAT(sample_error(10, std::nan(""), {}), HasSubstr("positive"));
  EXPECT_THAT(sample_error(10, {}, 12), HasSubstr("has 10 frames"));
  EXPECT_THAT(sample_error(10, {}, 0), HasSubstr("at least 2"));
  EXPECT_THAT(sample_error(10, {}, -8), HasSubstr("at least 2"));
}

// An index that rounds up to the number of frames, which the reference yields and then cannot decode.
TEST(SampleFrames, NeverPastTheEnd) {
  for (int total = 1; total < 4000; total += 7) {
    FrameSampling rule;
    rule.num_frames = std::min(total / 2 * 2, 200);
    if (*rule.num_frames == 0) continue;
    for (const int index : sample_frames(total, std::nullopt, rule, 2)) ASSERT_LT(index, total);
  }
}

// transformers' Qwen3VLVideoProcessor.sample_frames, whose own rule is two frames a second.
TEST(SampleFramesEvenly, EqualsTransformers) {
  const auto taken = [](int total, std::optional<double> source_fps, FrameSampling rule) {
    rule.min_frames = 4;
    return sample_frames_evenly(total, source_fps, rule, 2);
  };
  EXPECT_THAT(taken(15, 10.0, {.fps = 2}), ElementsAre(0, 5, 9, 14)) << "4.67 and 9.33";
  EXPECT_THAT(taken(6, {}, {.fps = 2}), ElementsAre(0, 2, 3, 5)) << "24 frames a second, at least 4";
  EXPECT_THAT(taken(3, {}, {.fps = 2}), ElementsAre(0, 1, 2));
  EXPECT_THAT(taken(1, {}, {.fps = 2}), ElementsAre(0));
  EXPECT_THAT(taken(100, 29.97, {.fps = 2}), ElementsAre(0, 20, 40, 59, 79, 99));
  EXPECT_THAT(taken(47, {}, {.fps = 5}), ElementsAre(0, 6, 12, 17, 23, 29, 34, 40, 46)) << "halves to even";
  EXPECT_THAT(taken(4, 3.0, {.fps = 30}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(taken(1000, 24.0, {.fps = 1, .max_frames = 3}), ElementsAre(0, 500, 999)) << "499.5";
  EXPECT_THAT(taken(7, 25.0, {.num_frames = 4}), ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(taken(5, 25.0, {.num_frames = 8}), ElementsAre(0, 1, 1, 2, 2, 3, 3, 4));
  EXPECT_THAT(taken(10, {}, {.num_frames = 1}), ElementsAre(0));
  EXPECT_EQ(taken(1000, {}, {}).size(), 1000U);
  const auto error = [&](std::optional<double> source_fps, const FrameSampling& rule) {
    return message_of<InputError>([&] { (void)taken(10, source_fps, rule); });
  };
  EXPECT_THAT(error({}, {.fps = 1, .num_frames = 2}), HasSubstr("not by both"));
  EXPECT_THAT(error(-1, {.fps = 1}), HasSubstr("source_fps is -1"));
  EXPECT_THAT(error({}, {.num_frames = 0}), HasSubstr("0 frames"));
  EXPECT_THAT(error({}, {.num_frames = 2'000'000'000}), HasSubstr("1 to 100000"));
}

// The indices taken of a list of `total` frames.
std::vector<int> taken(int total, const Video& video, const FrameSampling& recipe,
                       std::optional<double> source_fps = std::nullopt) {
  const FrameSampling rule = choose_rule(video, recipe, 2, total, source_fps);
  return sample_frames(total, source_fps, rule, 2);
}

TEST(ChooseRule, TheInputsRuleWinsOverTheRecipes) {
  FrameSampling recipe;
  recipe.num_frames = 6;
  Video video;
  EXPECT_EQ(taken(15, video, recipe, 10).size(), 6U);
  video.fps = 4;
  EXPECT_EQ(taken(15, video, recipe, 10).size(), 6U);  // 1.5 seconds.
  video.fps = std::nullopt;
  video.num_frames = 4;
  EXPECT_THAT(taken(15, video, recipe, 10), ElementsAre(0, 3, 7, 11));
}

TEST(ChooseRule, ARecipesRuleAsksForAtMostWhatThereIs) {
  FrameSampling recipe;
  recipe.num_frames = 64;
  EXPECT_EQ(taken(15, {}, recipe, 10).size(), 15U);
  EXPECT_EQ(taken(3, {}, recipe).size(), 3U);
  recipe = {};
  recipe.fps = 1;
  EXPECT_EQ(taken(9, {}, recipe).size(), 9U);  // Its own fps is not known.
  EXPECT_EQ(taken(1, {}, recipe).size(), 1U);
  EXPECT_EQ(taken(40, {}, recipe, 10).size(), 4U);
  const auto error = [](int total, const Video& video, const FrameSampling& rule) {
    return message_of<InputError>([&] { (void)taken(total, video, rule); });
  };
  Video asked;
  asked.fps = 1;
  EXPECT_THAT(error(9, asked, recipe), HasSubstr("source_fps"));
  asked.fps = std::nullopt;
  asked.num_frames = 20;
  EXPECT_THAT(error(9, asked, recipe), HasSubstr("has 9 frames"));
  recipe.num_frames = 4;
  EXPECT_THAT(error(9, {}, recipe), HasSubstr("it must choose"));
  asked = {};
  asked.source_fps = -1;
  EXPECT_THAT(error(9, asked, {}), HasSubstr("source_fps is -1"));
}

}  // namespace
}  // namespace tte::models
