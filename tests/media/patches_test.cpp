#include "media/patches.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>

#include "media/patch_spec.h"
#include "media_test_util.h"

namespace tte::media::testing {
namespace {

using base::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using tte::testing::message_of;

Patches make(const Json& golden) {
  const bool video = golden.at("video");
  const PatchSpec spec =
      parse_patch_spec(golden.at("config"), "golden", video ? default_video_patch_spec() : PatchSpec{});
  std::vector<at::Tensor> frames;
  for (const auto& frame : golden.at("frames")) frames.push_back(pattern(frame[0], frame[1], frame[2]));
  return video ? patchify_video(frames, spec, "item 0") : patchify_image(frames.at(0), spec, "item 0");
}

TEST(Patches, BitEqualToTransformers) {
  for (const auto& golden : goldens().at("patches")) {
    SCOPED_TRACE(golden.at("config").dump() + " " + golden.at("frames").dump());
    const Patches patches = make(golden);
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

TEST(Patches, SmartResizeEqualsTransformers) {
  for (const auto& row : goldens().at("smart_resize")) {
    PatchSpec spec;
    spec.patch_size = row[0].get<int>() / 2;
    spec.min_pixels = row[1];
    spec.max_pixels = row[2];
    const Size size = smart_resize({row[3], row[4]}, spec, "item 0");
    EXPECT_EQ(size.height, row[5].get<std::int64_t>()) << row;
    EXPECT_EQ(size.width, row[6].get<std::int64_t>()) << row;
  }
}

TEST(Patches, SmartResizeRefuses) {
  const auto error = [](Size size) {
    return message_of<InputError>([&] { smart_resize(size, PatchSpec{}, "item 4"); });
  };
  EXPECT_THAT(error({1, 201}), AllOf(HasSubstr("item 4"), HasSubstr("201x1"), HasSubstr("201.0")));
  EXPECT_THAT(error({4021, 20}), HasSubstr("20x4021"));
  EXPECT_THAT(error({0, 10}), HasSubstr("no pixels"));
  EXPECT_EQ(smart_resize({1, 200}, PatchSpec{}, "a").height, 28);
}

TEST(Patches, DigestFollowsContent) {
  const PatchSpec spec;
  const auto digest = [&](const at::Tensor& image, const PatchSpec& s) {
    return patchify_image(image, s, "a").digest;
  };
  const base::Digest first = digest(pattern(60, 60), spec);
  EXPECT_EQ(first, digest(pattern(60, 60), spec));
  EXPECT_NE(first, digest(pattern(60, 60, 1), spec));
  EXPECT_NE(first, digest(pattern(60, 90), spec));
  PatchSpec other;
  other.mean[0] = 0.5;
  EXPECT_NE(first, digest(pattern(60, 60), other));
}

TEST(Patches, StridedInputGivesTheSame) {
  const at::Tensor image = pattern(64, 80);
  const at::Tensor strided = image.permute({2, 0, 1}).contiguous().permute({1, 2, 0});
  ASSERT_FALSE(strided.is_contiguous());
  EXPECT_TRUE(at::equal(patchify_image(image, {}, "a").values, patchify_image(strided, {}, "a").values));
}

TEST(Patches, OddFrameIsRepeated) {
  const std::vector<at::Tensor> three = {pattern(56, 56, 1), pattern(56, 56, 2), pattern(56, 56, 3)};
  std::vector<at::Tensor> four = three;
  four.push_back(three.back());
  const Patches a = patchify_video(three, {}, "a");
  EXPECT_EQ(a.t, 2);
  EXPECT_TRUE(at::equal(a.values, patchify_video(four, {}, "a").values));
}

TEST(Patches, InputsThatCannotBeCut) {
  const auto image_error = [](const at::Tensor& image, const PatchSpec& spec = {}) {
    return message_of<InputError>([&] { patchify_image(image, spec, "item 2"); });
  };
  EXPECT_THAT(image_error(at::zeros({10, 10, 4}, at::kByte)),
              AllOf(HasSubstr("item 2"), HasSubstr("10, 10, 4")));
  EXPECT_THAT(image_error(at::zeros({10, 10, 3}, at::kFloat)), HasSubstr("Float"));
  EXPECT_THAT(image_error(at::zeros({3, 10}, at::kByte)), HasSubstr("uint8"));
  EXPECT_THAT(image_error({}), HasSubstr("no image"));
  PatchSpec fixed;
  fixed.do_resize = false;
  EXPECT_THAT(image_error(pattern(56, 60), fixed), HasSubstr("60x56"));
  EXPECT_EQ(patchify_image(pattern(56, 84), fixed, "a").w, 6);
  const auto video_error = [](const std::vector<at::Tensor>& frames) {
    return message_of<InputError>([&] { patchify_video(frames, {}, "item 2"); });
  };
  EXPECT_THAT(video_error({}), HasSubstr("no frames"));
  EXPECT_THAT(video_error({pattern(56, 56), pattern(56, 57)}),
              AllOf(HasSubstr("frame 1"), HasSubstr("57x56")));
}

TEST(PatchSpec, BothNamingGenerations) {
  const PatchSpec old = parse_patch_spec(Json::parse(R"({"min_pixels": 1000, "max_pixels": 2000})"), "f");
  EXPECT_EQ(old.min_pixels, 1000);
  EXPECT_EQ(old.max_pixels, 2000);
  const PatchSpec current = parse_patch_spec(
      Json::parse(R"({"size": {"shortest_edge": 1000, "longest_edge": 2000}, "patch_size": 16})"), "f");
  EXPECT_EQ(current.min_pixels, 1000);
  EXPECT_EQ(current.max_pixels, 2000);
  EXPECT_EQ(current.factor(), 32);
  const PatchSpec both = parse_patch_spec(
      Json::parse(R"({"min_pixels": 1000, "size": {"shortest_edge": 5, "longest_edge": 2000}})"), "f");
  EXPECT_EQ(both.min_pixels, 1000);
  EXPECT_EQ(both.max_pixels, 2000);
  const PatchSpec empty = parse_patch_spec(Json::object(), "f", default_video_patch_spec());
  EXPECT_EQ(empty.min_pixels, 128 * 28 * 28);
  EXPECT_EQ(empty.max_pixels, 768 * 28 * 28);
  EXPECT_EQ(parse_patch_spec(Json::parse(R"({"image_mean": 0.5, "resample": 3})"), "f").mean[2], 0.5);
}

TEST(PatchSpec, ValuesThatMakeNoSense) {
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
    const std::string message =
        message_of<ModelError>([&] { parse_patch_spec(Json::parse(c.json), "preprocessor_config.json"); });
    EXPECT_THAT(message, AllOf(HasSubstr("preprocessor_config.json"), HasSubstr(c.word))) << c.json;
  }
}

TEST(Patches, AnImageMayAskForItsOwnSize) {
  const auto grid = [](std::int64_t height, std::int64_t width, const Resize& wanted) {
    const Patches patches =
        patchify_image(pattern(height, width, 1), with_resize({}, wanted, "item 0"), "item 0");
    return std::vector<std::int64_t>{patches.h, patches.w};
  };
  using Grid = std::vector<std::int64_t>;
  EXPECT_EQ(grid(560, 840, {.max_pixels = 56 * 84}), (Grid{4, 6}));
  EXPECT_EQ(grid(28, 28, {.min_pixels = 280 * 280}), (Grid{20, 20}));
  EXPECT_EQ(grid(100, 300, {.height = 84, .width = 140}), (Grid{6, 10}));
  EXPECT_EQ(grid(100, 300, {.max_pixels = 784, .height = 84, .width = 140}), (Grid{2, 2}));
  // One limit alone: the spec's other one gives way.
  EXPECT_EQ(with_resize({}, {.max_pixels = 100}, "").min_pixels, 100);
  EXPECT_EQ(with_resize({}, {.min_pixels = 5'000'000}, "").max_pixels, 5'000'000);
}

TEST(Patches, ASizeThatCannotBeIsToldWithItsName) {
  const auto told = [](const Resize& wanted, const PatchSpec& spec = {}) {
    return message_of<InputError>([&] { (void)with_resize(spec, wanted, "item 7"); });
  };
  EXPECT_THAT(told({.min_pixels = 0}), AllOf(HasSubstr("item 7"), HasSubstr("min_pixels is 0")));
  EXPECT_THAT(told({.max_pixels = std::int64_t{1} << 40}), HasSubstr("max_pixels is 1099511627776"));
  EXPECT_THAT(told({.min_pixels = 9, .max_pixels = 8}), HasSubstr("at most max_pixels (8)"));
  EXPECT_THAT(told({.height = -1, .width = 9}), HasSubstr("resized_height is -1"));
  EXPECT_THAT(told({.height = 9}), HasSubstr("go together"));
  PatchSpec fixed;
  fixed.do_resize = false;
  EXPECT_THAT(told({.max_pixels = 900}, fixed), HasSubstr("does not resize"));
}

}  // namespace
}  // namespace tte::media::testing
