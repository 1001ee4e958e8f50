#include "models/qwen/visual_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "media/media_test_util.h"

namespace tte::models::qwen {
namespace {

using media::testing::fnv1a;
using media::testing::goldens;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

Image pattern(const base::Json& golden) {
  const auto pixels =
      std::make_shared<const at::Tensor>(media::testing::pattern(golden[0], golden[1], golden[2]));
  return {Pixels{std::shared_ptr<const std::uint8_t>(pixels, pixels->const_data_ptr<std::uint8_t>()),
                 static_cast<int>(pixels->size(0)), static_cast<int>(pixels->size(1)), 3},
          Alpha::kDrop};
}

std::shared_ptr<const Visual> read(const base::Json& golden) {
  const VisualSpecs specs = {parse_visual_spec(golden.at("config"), "golden"),
                             parse_visual_spec(golden.at("config"), "golden", default_video_spec())};
  const QwenVisualReader reader(specs, {});
  media::Budget budget;
  if (!golden.at("video")) return reader.image(pattern(golden.at("frames")[0]), budget);
  std::vector<Image> frames;
  for (const auto& frame : golden.at("frames")) frames.push_back(pattern(frame));
  return reader.video({std::move(frames), {}, {}, {}}, budget);
}

TEST(QwenVisualReader, PatchesBitEqualToTransformers) {
  for (const auto& golden : goldens().at("patches")) {
    SCOPED_TRACE(golden.at("config").dump() + " " + golden.at("frames").dump());
    const auto visual = read(golden);
    const media::Patches& patches = visual->patches;
    EXPECT_EQ(visual->video, golden.at("video").get<bool>());
    const std::vector<std::int64_t> grid = {patches.t, patches.h, patches.w};
    ASSERT_EQ(grid, golden.at("grid").get<std::vector<std::int64_t>>());
    ASSERT_EQ(patches.values.sizes().vec(), golden.at("shape").get<std::vector<std::int64_t>>());
    ASSERT_EQ(patches.values.scalar_type(), at::kFloat);
    const auto* values = patches.values.const_data_ptr<float>();
    for (const auto& sample : golden.at("samples")) {
      ASSERT_EQ(values[sample[0].get<std::int64_t>()], sample[1].get<float>()) << "value " << sample[0];
    }
    EXPECT_EQ(fnv1a(patches.values), golden.at("digest").get<std::string>());
  }
}

// A file of 15 frames in 1.5 seconds.
TEST(QwenVisualReader, FramesOfAVideoHaveTimes) {
  Video video{media::testing::data_folder() / "clip.mp4", {}, 4, {}};
  media::Budget budget;
  const auto visual = QwenVisualReader({}, {}).video(video, budget);
  EXPECT_EQ(visual->patches.t, 2);
  EXPECT_THAT(visual->frame_times,
              ElementsAre(::testing::DoubleNear(0, 1e-9), ::testing::DoubleNear(0.3, 1e-9),
                          ::testing::DoubleNear(0.7, 1e-9), ::testing::DoubleNear(1.1, 1e-9)));
}

// A file of 15 frames in 1.5 seconds.
TEST(QwenVisualReader, AFamilyMaySampleByItself) {
  VisualSpecs specs;
  specs.video = default_sampled_video_spec();
  const auto times = [&](const VisualOptions& recipe, std::optional<int> count = std::nullopt) {
    Video video{media::testing::data_folder() / "clip.mp4", {}, count, {}};
    media::Budget budget;
    auto found = QwenVisualReader(specs, recipe, kQwen3VideoRules).video(video, budget)->frame_times;
    for (double& time : found) time = std::round(time * 10);
    return found;
  };
  VisualOptions recipe;
  EXPECT_THAT(times(recipe), ElementsAre(0, 5, 9, 14));
  EXPECT_THAT(times(recipe, 3), ElementsAre(0, 7, 14)) << "the item's own number wins";
  recipe.frames.max_frames = 2;
  EXPECT_THAT(times(recipe), ElementsAre(0, 14)) << "a recipe may bound the family's rule";
  recipe.frames.num_frames = 5;
  EXPECT_THAT(times(recipe), ElementsAre(0, 4, 7, 10, 14)) << "3.5, 10.5";
  recipe.frames.num_frames = 100;
  EXPECT_EQ(times(recipe).size(), 15U) << "a recipe asks for at most what there is";
  specs.video.sampling.reset();
  EXPECT_EQ(times({}).size(), 15U);
  specs.video.sampling = FrameSampling{.min_frames = 4, .max_frames = 4};
  EXPECT_EQ(times({}).size(), 4U) << "neither fps nor num_frames: within the bounds";
}

TEST(QwenVisualReader, ARecipeMayResizeAsQwenVlUtils) {
  VisualSpecs specs;
  specs.video = default_sampled_video_spec();
  const auto grid = [&](const VisualOptions& recipe) {
    Video video{media::testing::data_folder() / "clip.mp4", {}, 4, {}};
    media::Budget budget;
    const QwenVisualReader reader(specs, recipe, kQwen3VideoRules);
    const media::Patches patches = reader.video(video, budget)->patches;
    return patches.t * patches.h * patches.w / 4;
  };
  VisualOptions recipe;
  const base::Digest own = QwenVisualReader(specs, recipe, kQwen3VideoRules).signature();
  EXPECT_LE(grid(recipe), 100) << "the least is 128 tokens for four frames: 64 for two pairs, rounded up";
  recipe.video_resize = VideoResize::kQwenVlUtils;
  EXPECT_GE(grid(recipe), 2 * 128) << "128 tokens for each";
  EXPECT_NE(QwenVisualReader(specs, recipe, kQwen3VideoRules).signature(), own);
  const base::Digest utils = QwenVisualReader(specs, recipe, kQwen3VideoRules).signature();
  recipe.video_total_pixels = 1000;
  EXPECT_NE(QwenVisualReader(specs, recipe, kQwen3VideoRules).signature(), utils);
}

TEST(QwenVisualReader, LimitsThatExcludeEachOther) {
  VisualOptions recipe;
  recipe.recipe = "r";
  recipe.video_min_pixels = 5'000'000;
  EXPECT_THAT(message_of<ModelError>([&] { QwenVisualReader({}, recipe); }),
              AllOf(HasSubstr("\"r\""), HasSubstr("5000000"), HasSubstr("videos")));
  recipe.video_min_pixels.reset();
  recipe.frames.min_frames = 1000;
  EXPECT_THAT(message_of<ModelError>([&] { QwenVisualReader({}, recipe); }),
              AllOf(HasSubstr("\"r\""), HasSubstr("min_frames 1000"), HasSubstr("max_frames 768")));
  VisualSpecs files;
  files.video.sampling = FrameSampling{.fps = 2, .max_frames = 2000};
  EXPECT_NO_THROW(QwenVisualReader(files, recipe)) << "the checkpoint's own bound is higher";
}

}  // namespace
}  // namespace tte::models::qwen
