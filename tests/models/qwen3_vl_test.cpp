// Qwen3-VL and Qwen3 without their numbers, which tests/python compares with transformers.
#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "expect_error.h"
#include "media/budget.h"
#include "models/preprocessor.h"
#include "models/qwen/grid_tower.h"
#include "models/qwen3_vl/config.h"
#include "temp_dir.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/error.h"

namespace tte::models::qwen3_vl {
namespace {

using base::Json;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempDir;
using Position = std::array<std::int64_t, 3>;

constexpr std::int64_t kImage = 90, kVideo = 91;

Json small_config() {
  return Json::parse(R"({
    "model_type": "qwen3_vl", "image_token_id": 90, "video_token_id": 91,
    "text_config": {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 48,
      "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_interleaved": true,
        "mrope_section": [4, 2, 2]}},
    "vision_config": {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48,
      "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 2]}})");
}

Config load(const Json& json) {
  const TempDir folder;
  folder.write("config.json", json.dump());
  return load_config(folder.path());
}

TEST(Qwen3VlConfig, Reads) {
  const Config config = load(small_config());
  EXPECT_EQ(config.text.head_dim, 16) << "not hidden_size / num_attention_heads";
  EXPECT_TRUE(config.text.qk_norm);
  EXPECT_EQ(config.text.rope_theta, 5e6);
  EXPECT_THAT(config.text.rope_axes, ElementsAre(0, 1, 2, 0, 1, 2, 0, 0));
  EXPECT_EQ(config.vision.patch_size, 16);
  EXPECT_EQ(config.vision.num_positions, 16);
  EXPECT_EQ(config.vision.activation, kernels::Activation::kGeluTanh);
  EXPECT_THAT(config.vision.deepstack, ElementsAre(0, 2));
}

TEST(Qwen3VlConfig, DefaultsAreTransformers) {
  const Config config =
      load(Json::parse(R"({"model_type": "qwen3_vl", "vision_config": {"out_hidden_size": 4096}})"));
  EXPECT_EQ(config.text.hidden_size, 4096);
  EXPECT_EQ(config.text.head_dim, 128);
  EXPECT_EQ(config.text.max_positions, 128000);
  EXPECT_EQ(config.text.rope_theta, 5e5);
  EXPECT_EQ(config.text.rope_axes.size(), 64U);
  EXPECT_EQ(config.vision.depth, 27);
  EXPECT_EQ(config.vision.hidden_size, 1152);
  EXPECT_EQ(config.vision.num_positions, 48 * 48);
  EXPECT_THAT(config.vision.deepstack, ElementsAre(8, 16, 24));
}

TEST(Qwen3VlConfig, BlocksThatAreNotThere) {
  Json config = small_config();
  config["vision_config"]["deepstack_visual_indexes"] = {0, 3};
  EXPECT_THAT(message_of<ModelError>([&] { (void)load(config); }),
              AllOf(HasSubstr("config.json"), HasSubstr("deepstack_visual_indexes")));
  config["vision_config"]["deepstack_visual_indexes"] = {1, 1};
  EXPECT_THAT(message_of<ModelError>([&] { (void)load(config); }), HasSubstr("above the one before"));
}

// transformers' get_vision_interpolation_indices_and_weights, align_corners=True, blocks of 2 x 2.
TEST(Qwen3VlGrid, EqualsTransformers) {
  const float third = 0.3333333134651184F, two_thirds = 0.6666666269302368F;
  const qwen::GridTaps wide = qwen::grid_taps(2, 4, 3, 2);
  EXPECT_TRUE(at::equal(wide.index, at::tensor({0, 0, 6, 6, 1, 2, 7, 8, 1, 1, 7, 7, 2, 2, 8, 8,
                                                3, 3, 6, 6, 4, 5, 7, 8, 4, 4, 7, 7, 5, 5, 8, 8},
                                               at::kLong)
                                        .view({4, 8})));
  EXPECT_TRUE(
      at::equal(wide.weight[0], at::tensor({1.0F, third, 1.0F, third, two_thirds, 1.0F, two_thirds, 1.0F})));
  EXPECT_TRUE(at::equal(wide.weight[1], at::tensor({0.0F, 0.6666666865348816F, 0.0F, 0.6666666865348816F,
                                                    0.3333333730697632F, 0.0F, 0.3333333730697632F, 0.0F})));
  EXPECT_TRUE(at::equal(wide.weight[2], at::zeros({8})))
      << "two rows of patches, on the outer rows of the grid";
  const qwen::GridTaps tall = qwen::grid_taps(4, 2, 5, 2);
  EXPECT_TRUE(at::equal(tall.index[3], at::tensor({6, 9, 11, 14, 16, 19, 21, 24}, at::kLong)));
  EXPECT_TRUE(at::equal(tall.weight[2], at::tensor({0.0F, 0.0F, 0.3333333730697632F, 0.3333333730697632F,
                                                    0.6666667461395264F, 0.6666667461395264F, 0.0F, 0.0F})));
  EXPECT_TRUE(at::equal(qwen::grid_taps(2, 2, 1, 2).index, at::zeros({4, 4}, at::kLong)));
}

class Qwen3VlPrompt : public ::testing::Test {
 protected:
  Qwen3VlPrompt() {
    folder_.write("config.json", small_config().dump());
    folder_.write("preprocessor_config.json", R"({"patch_size": 16})");
    preprocessor_ = load_preprocessor(folder_.path());
  }
  [[nodiscard]] std::string expand(const std::string& text, const Visuals& visuals,
                                   const VisualOptions& options = {}) const {
    return preprocessor_->expand_text(text, visuals, options);
  }

  TempDir folder_;
  std::shared_ptr<const Preprocessor> preprocessor_;
};

std::shared_ptr<const Visual> image(std::int64_t h, std::int64_t w) {
  auto made = std::make_shared<Visual>();
  made->patches = {{}, 1, h, w, {}};
  return made;
}

std::shared_ptr<const Visual> video(std::vector<double> times, std::int64_t h, std::int64_t w) {
  auto made = std::make_shared<Visual>();
  made->video = true;
  made->patches = {{}, static_cast<std::int64_t>(times.size() + 1) / 2, h, w, {}};
  made->frame_times = std::move(times);
  return made;
}

TEST_F(Qwen3VlPrompt, EachPairOfFramesHasItsTime) {
  EXPECT_EQ(expand("a<|video_pad|>b<|image_pad|>c", {video({0, 0.5, 1, 1.5, 2}, 4, 4), image(4, 4)}),
            "a<0.2 seconds><|vision_start|><|video_pad|><|vision_end|>"
            "<1.2 seconds><|vision_start|><|video_pad|><|vision_end|>"
            "<2.0 seconds><|vision_start|><|video_pad|><|vision_end|>b<|image_pad|>c")
      << "0.25 and 1.25 are rounded to even; the last frame counts twice";
  EXPECT_EQ(expand("<|image_pad|>", {image(4, 4)}), "<|image_pad|>");
  EXPECT_EQ(expand("plain", {}), "plain");
}

TEST_F(Qwen3VlPrompt, ARecipeMayTakeTheOuterTokensAway) {
  const std::string text = "a<|vision_start|><|video_pad|><|vision_end|>b";
  const std::string frame = "<0.5 seconds><|vision_start|><|video_pad|><|vision_end|>";
  EXPECT_EQ(expand(text, {video({0, 1}, 4, 4)}), "a<|vision_start|>" + frame + "<|vision_end|>b");
  VisualOptions bare;
  bare.video_outer_tokens = false;
  EXPECT_EQ(expand(text, {video({0, 1}, 4, 4)}, bare), "a" + frame + "b");
  EXPECT_EQ(expand(text + text, {video({0, 1}, 4, 4), video({0, 1}, 4, 4)}, bare),
            "a" + frame + "ba" + frame + "b");
  EXPECT_EQ(expand("a<|video_pad|>b", {video({0, 1}, 4, 4)}, bare), "a" + frame + "b");
}

TEST_F(Qwen3VlPrompt, WhatUsersWriteIsNoPlaceholder) {
  const std::string guarded = std::string(text::kGuardBegin) + "<|video_pad|>" + std::string(text::kGuardEnd);
  EXPECT_EQ(expand(guarded + "<|video_pad|>" + guarded, {video({0, 1}, 4, 4)}),
            guarded + "<0.5 seconds><|vision_start|><|video_pad|><|vision_end|>" + guarded);
  EXPECT_EQ(expand(guarded, {}), guarded);
  EXPECT_EQ(expand(std::string(text::kGuardBegin) + "<|video_pad|>", {}),
            std::string(text::kGuardBegin) + "<|video_pad|>");
}

TEST_F(Qwen3VlPrompt, TextThatDoesNotMatchItsVisuals) {
  EXPECT_THAT(message_of<InputError>([&] { (void)expand("<|video_pad|>", {}); }),
              AllOf(HasSubstr("1 image and video placeholders"), HasSubstr("0 images")));
  EXPECT_THAT(message_of<InputError>([&] { (void)expand("<|image_pad|>", {video({0}, 4, 4)}); }),
              HasSubstr("Placeholder 1"));
}

TEST_F(Qwen3VlPrompt, AVideoIsAGridForEachPairOfFrames) {
  const Prompt prompt = preprocessor_->expand_placeholders({3, kVideo, 4, kVideo, kImage, 5},
                                                           {video({0, 1, 2}, 2, 4), image(4, 2)});
  EXPECT_THAT(prompt.ids, ElementsAre(3, kVideo, kVideo, 4, kVideo, kVideo, kImage, kImage, 5));
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{1, 1, 1}, Position{1, 1, 2},
                                            Position{3, 3, 3}, Position{4, 4, 4}, Position{4, 4, 5},
                                            Position{6, 6, 6}, Position{6, 7, 6}, Position{8, 8, 8}));
  EXPECT_EQ(prompt.next_position, 9);
  EXPECT_THAT(prompt.visual_tokens, ElementsAre(4, 2));
  EXPECT_EQ(prompt.visuals.size(), 2U);
  EXPECT_THAT(message_of<InputError>([&] {
                (void)preprocessor_->expand_placeholders({kVideo}, {video({0, 1, 2}, 2, 4)});
              }),
              HasSubstr("1 image and video placeholders"));
}

TEST(Qwen3, ReadsTextOnly) {
  const TempDir folder;
  folder.write("config.json", R"({"model_type": "qwen3", "vocab_size": 100, "head_dim": 16})");
  const auto preprocessor = models::load_preprocessor(folder.path());
  EXPECT_FALSE(preprocessor->image_token().has_value());
  EXPECT_FALSE(preprocessor->video_token().has_value());
  const Prompt prompt = preprocessor->expand_placeholders({7, 8}, {});
  EXPECT_THAT(prompt.positions, ElementsAre(Position{0, 0, 0}, Position{1, 1, 1}));
  EXPECT_THAT(prompt.kinds, Each(base::Modality::kText));
  const auto reader = preprocessor->visual_reader({});
  media::Budget budget;
  EXPECT_THAT(
      message_of<InputError>([&] { (void)reader->image({}, budget); }),
      AllOf(HasSubstr("it has an image"), HasSubstr(folder.path().string()), HasSubstr("reads text only")));
  EXPECT_THAT(message_of<InputError>([&] { (void)reader->video({}, budget); }), HasSubstr("has a video"));
}

TEST(Qwen3, RopesThatAreNotThere) {
  const TempDir folder;
  folder.write("config.json",
               R"({"model_type": "qwen3", "rope_scaling": {"rope_type": "yarn", "factor": 4}})");
  EXPECT_THAT(message_of<ModelError>([&] { (void)models::load_preprocessor(folder.path()); }),
              AllOf(HasSubstr("rope_type"), HasSubstr("yarn"), HasSubstr("\"default\"")));
}

}  // namespace
}  // namespace tte::models::qwen3_vl
