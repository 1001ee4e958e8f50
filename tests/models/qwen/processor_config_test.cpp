#include "models/qwen/processor_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::models::qwen {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempDir;

TEST(QwenProcessorConfig, BothNamingGenerations) {
  const VisualSpec old =
      parse_visual_spec(base::Json::parse(R"({"min_pixels": 1000, "max_pixels": 2000})"), "f");
  EXPECT_EQ(old.min_pixels, 1000);
  EXPECT_EQ(old.max_pixels, 2000);
  const VisualSpec current = parse_visual_spec(
      base::Json::parse(R"({"size": {"shortest_edge": 1000, "longest_edge": 2000}, "patch_size": 16})"), "f");
  EXPECT_EQ(current.min_pixels, 1000);
  EXPECT_EQ(current.max_pixels, 2000);
  EXPECT_EQ(current.factor(), 32);
  const VisualSpec both = parse_visual_spec(
      base::Json::parse(R"({"min_pixels": 1000, "size": {"shortest_edge": 5, "longest_edge": 2000}})"), "f");
  EXPECT_EQ(both.min_pixels, 1000);
  EXPECT_EQ(both.max_pixels, 2000);
  const VisualSpec empty = parse_visual_spec(base::Json::object(), "f", default_video_spec());
  EXPECT_EQ(empty.min_pixels, 128 * 28 * 28);
  EXPECT_EQ(empty.max_pixels, 768 * 28 * 28);
  EXPECT_EQ(
      parse_visual_spec(base::Json::parse(R"({"image_mean": 0.5, "resample": 3})"), "f").patches.mean[2],
      0.5);
}

VisualSpec sampled(const char* json) {
  return parse_visual_spec(base::Json::parse(json), "video_preprocessor_config.json",
                           default_sampled_video_spec(), LimitKeys::kSize);
}

TEST(QwenProcessorConfig, AFamilyThatSamplesReadsHow) {
  const VisualSpec defaults = sampled("{}");
  EXPECT_EQ(defaults.sampling->fps, 2);
  EXPECT_EQ(defaults.sampling->min_frames, 4);
  EXPECT_EQ(defaults.sampling->max_frames, 768);
  EXPECT_EQ(defaults.max_video_tokens, 768);
  EXPECT_EQ(sampled(R"({"fps": 1.5, "min_frames": 2, "max_frames": 9})").sampling->max_frames, 9);
  EXPECT_EQ(sampled(R"({"fps": null, "num_frames": 8})").sampling->num_frames, 8);
  EXPECT_FALSE(sampled(R"({"fps": null})").sampling->fps.has_value());
  EXPECT_FALSE(sampled(R"({"do_sample_frames": false, "fps": 2})").sampling.has_value());
  EXPECT_FALSE(parse_visual_spec(base::Json::parse(R"({"fps": 2})"), "f").sampling.has_value());
  EXPECT_THAT(message_of<ModelError>([] { (void)sampled(R"({"num_frames": 8})"); }),
              AllOf(HasSubstr("num_frames"), HasSubstr("\"fps\", which is 2")));
  EXPECT_THAT(message_of<ModelError>([] { (void)sampled(R"({"fps": 0})"); }), HasSubstr("fps"));
}

TEST(QwenProcessorConfig, WhereOnlySizeCounts) {
  const VisualSpec old = sampled(R"({"min_pixels": 1000, "max_pixels": 2000})");
  EXPECT_EQ(old.min_pixels, 128 * 32 * 32);
  EXPECT_EQ(old.max_pixels, 768 * 32 * 32);
  const VisualSpec both = sampled(R"({"min_pixels": 1, "size": {"shortest_edge": 5, "longest_edge": 6}})");
  EXPECT_EQ(both.min_pixels, 5);
  EXPECT_EQ(both.max_pixels, 6);
}

TEST(QwenProcessorConfig, ValuesThatMakeNoSense) {
  const struct {
    const char* json;
    const char* word;
  } cases[] = {
      {R"([1])", "not a JSON object"},
      {R"({"patch_size": 0})", "patch_size"},
      {R"({"patch_size": "14"})", "patch_size"},
      {R"({"merge_size": -1})", "merge_size"},
      {R"({"temporal_patch_size": 1000})", "temporal_patch_size"},
      {R"({"min_pixels": 0})", "min_pixels"},
      {R"({"size": {"height": 224, "width": 224}})", "shortest_edge"},
      {R"({"size": 224})", "shortest_edge"},
      {R"({"size": {"shortest_edge": 3136}})", "shortest_edge"},
      {R"({"rescale_factor": 0})", "rescale_factor"},
      {R"({"image_mean": [0.5, 0.5]})", "image_mean"},
      {R"({"image_std": [0.5, 0, 0.5]})", "image_std"},
      {R"({"resample": 2})", "resample"},
      {R"({"do_resize": "yes"})", "do_resize"},
  };
  for (const auto& c : cases) {
    const std::string message = message_of<ModelError>(
        [&] { parse_visual_spec(base::Json::parse(c.json), "preprocessor_config.json"); });
    EXPECT_THAT(message, AllOf(HasSubstr("preprocessor_config.json"), HasSubstr(c.word))) << c.json;
  }
}

TEST(QwenProcessorConfig, OneOldFileServesImagesAndVideos) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 100352})");
  const VisualSpecs specs = load_visual_specs(folder.path(), VisualSpec().patches);
  EXPECT_EQ(specs.image.max_pixels, 100352);
  EXPECT_EQ(specs.video.max_pixels, 100352);
}

TEST(QwenProcessorConfig, VideosHaveTheirOwnFile) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 100352})");
  folder.write("video_preprocessor_config.json",
               R"({"size": {"shortest_edge": 3136, "longest_edge": 50176}})");
  const VisualSpecs specs = load_visual_specs(folder.path(), VisualSpec().patches);
  EXPECT_EQ(specs.image.max_pixels, 100352);
  EXPECT_EQ(specs.video.max_pixels, 50176);
}

TEST(QwenProcessorConfig, NestedSectionsComeFirst) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 100352})");
  folder.write("processor_config.json",
               R"({"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 25088}}})");
  const VisualSpecs specs = load_visual_specs(folder.path(), VisualSpec().patches);
  EXPECT_EQ(specs.image.max_pixels, 25088);
  EXPECT_EQ(specs.video.max_pixels, 100352);
  folder.write(
      "processor_config.json",
      R"({"image_processor": {}, "video_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12544}}})");
  EXPECT_EQ(load_visual_specs(folder.path(), VisualSpec().patches).video.max_pixels, 12544);
}

TEST(QwenProcessorConfig, NoFileAtAll) {
  const TempDir folder;
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_visual_specs(folder.path(), VisualSpec().patches); }),
              AllOf(HasSubstr(folder.path().string()), HasSubstr("preprocessor_config.json")));
}

TEST(QwenProcessorConfig, SizesOfAnotherTower) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"patch_size": 16})");
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_visual_specs(folder.path(), VisualSpec().patches); }),
              AllOf(HasSubstr("preprocessor_config.json"), HasSubstr("patch_size"), HasSubstr("16"),
                    HasSubstr("14")));
}

}  // namespace
}  // namespace tte::models::qwen
