#include "prompt/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "expect_error.h"

namespace tte::prompt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Optional;
using ::tte::testing::message_of;

Recipe parse(const std::string& text) {
  return parse_recipe(base::parse_json(text, "r.json"), "r.json");
}

TEST(Recipe, NothingIsTheDefault) {
  const Recipe recipe = parse("{}");
  EXPECT_TRUE(recipe.prompt.chat);
  EXPECT_THAT(recipe.prompt.user, ElementsAre("{content}"));
  EXPECT_TRUE(recipe.prompt.generation_prompt);
  EXPECT_EQ(recipe.pooling.pooling, Pooling::kLast);
  EXPECT_TRUE(recipe.normalize);
  EXPECT_EQ(recipe.trace.open, "<think>");
  EXPECT_EQ(recipe.trace.suffix, "");
  EXPECT_FALSE(recipe.decoding.max_new_tokens);
}

TEST(Recipe, EveryKeyIsRead) {
  const Recipe recipe = parse(R"({
    "name": "n", "description": "d",
    "prompt": {"style": "chat", "system": ["{instruction}"], "user": ["{media}", "{text}", "{trace}\n"],
               "generation_prompt": false, "no_text": {"image": "i", "video": "v"}, "blank_image": 28,
               "positions": "sequential",
               "template_options": {"enable_thinking": false, "level": 2, "effort": "low"},
               "request": "q", "instruction_end": ".", "strip_text": true},
    "instruction": {"reason": "r", "embed": "e"},
    "tasks": {"visdoc": {"query": "q", "target": {"both": "t", "think": false}}},
    "trace": {"open": "<a>", "close": "</a>", "keep": "conclusion", "suffix": "{eos}",
              "suffix_when_cut": false, "stop_tokens": ["<s>"]},
    "pooling": "token", "pooling_token": "<emb>", "pooling_fallback": "last", "normalize": false, "dims": [64, 128],
    "without_trace": {"pooling": "token", "pooling_token": "<disc>"}, "max_length": 99,
    "projection": [{"file": "f", "tensors": "a.", "activation": "tanh", "residual": true},
                   {"tensors": "b.", "residual": "r."}],
    "bidirectional": [0, 3],
    "applies_to": {"model_types": ["m"], "names": ["N"], "tokens": ["<emb>"], "without_tokens": ["<x>"]},
    "image": {"min_pixels": 10, "max_pixels": 20, "first": {"max_pixels": 30}, "min_side": 4, "small_side": 8},
    "video": {"min_pixels": 1, "max_pixels": 2, "fps": 1.5, "min_frames": 2, "max_frames": 8,
              "resize": "qwen_vl_utils", "total_pixels": 9, "outer_tokens": false},
    "decoding": {"max_new_tokens": 7, "min_new_tokens": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1,
                 "repetition_penalty": 1.1, "stop": ["x"], "stop_token_ids": [5], "ignore_eos": true,
                 "max_think_tokens": 3}})");
  EXPECT_EQ(recipe.name, "n");
  EXPECT_TRUE(recipe.prompt.trace_in_body());
  EXPECT_FALSE(recipe.prompt.generation_prompt);
  EXPECT_EQ(recipe.prompt.template_options,
            (TemplateOptions{
                {"enable_thinking", false}, {"level", std::int64_t{2}}, {"effort", std::string("low")}}));
  EXPECT_EQ(recipe.prompt.no_text_image, "i");
  EXPECT_EQ(recipe.prompt.no_text_video, "v");
  EXPECT_EQ(recipe.prompt.blank_image, 28);
  EXPECT_EQ(recipe.prompt.positions, Positions::kSequential);
  EXPECT_EQ(recipe.instruction.of(Stage::kReason), "r");
  EXPECT_EQ(recipe.instruction.of(Stage::kEmbed), "e");
  EXPECT_TRUE(recipe.trace.conclusion_only);
  EXPECT_EQ(recipe.pooling.pooling, Pooling::kToken);
  EXPECT_TRUE(recipe.pooling.else_last);
  EXPECT_EQ(recipe.without_trace->token, "<disc>");
  EXPECT_EQ(recipe.max_length, 99);
  ASSERT_EQ(recipe.projections.size(), 2U);
  EXPECT_EQ(recipe.projections[0].file, "f");
  EXPECT_EQ(recipe.projections[0].tensors, "a.");
  EXPECT_EQ(recipe.projections[0].activation, models::ProjectionActivation::kTanh);
  EXPECT_TRUE(recipe.projections[0].residual);
  EXPECT_EQ(recipe.projections[1].file, "");
  EXPECT_EQ(recipe.projections[1].residual_tensors, "r.");
  EXPECT_FALSE(recipe.bidirectional.all);
  EXPECT_THAT(recipe.bidirectional.layers, ElementsAre(0, 3));
  EXPECT_THAT(recipe.applies_to->names, ElementsAre("N"));
  EXPECT_THAT(recipe.applies_to->without_tokens, ElementsAre("<x>"));
  EXPECT_EQ(recipe.prompt.request, "q");
  EXPECT_EQ(recipe.prompt.instruction_end, ".");
  EXPECT_TRUE(recipe.prompt.strip_text);
  EXPECT_FALSE(recipe.trace.suffix_when_cut);
  EXPECT_THAT(recipe.trace.stop_tokens, ElementsAre("<s>"));
  EXPECT_EQ(recipe.visuals.image_first->max_pixels, 30);
  EXPECT_EQ(recipe.visuals.image_small_side, 8);
  EXPECT_FALSE(recipe.normalize);
  EXPECT_THAT(recipe.dims, Optional(ElementsAre(64, 128)));
  EXPECT_EQ(recipe.visuals.image_max_pixels, 20);
  EXPECT_EQ(recipe.visuals.video_max_pixels, 2);
  EXPECT_EQ(recipe.visuals.frames.fps, 1.5);
  EXPECT_EQ(recipe.visuals.frames.max_frames, 8);
  EXPECT_EQ(recipe.visuals.video_resize, models::VideoResize::kQwenVlUtils);
  EXPECT_EQ(recipe.visuals.video_total_pixels, 9);
  EXPECT_FALSE(recipe.visuals.video_outer_tokens);
  EXPECT_EQ(recipe.decoding.max_new_tokens, 7);
  EXPECT_EQ(recipe.decoding.max_think_tokens, 3);
  EXPECT_THAT(recipe.decoding.stop, ElementsAre("x"));
  EXPECT_TRUE(recipe.decoding.ignore_eos);

  EXPECT_EQ(recipe.preset({"visdoc", Side::kQuery}).reason, "q");
  EXPECT_TRUE(recipe.preset({"visdoc", Side::kQuery}).think);
  EXPECT_EQ(recipe.preset({"visdoc", Side::kTarget}).embed, "t");
  EXPECT_FALSE(recipe.preset({"visdoc", Side::kTarget}).think);
  EXPECT_EQ(recipe.preset({}).reason, "r");
  EXPECT_THAT(message_of<InputError>([&] {
                (void)recipe.preset({"image_qq", Side::kQuery});
              }),
              AllOf(HasSubstr("image_qq"), HasSubstr("visdoc")));
}

TEST(Recipe, EveryKeyOfLatentStepsIsRead) {
  const Recipe recipe = parse(R"({"latent": {"steps": 8, "open": "o", "token": "<ct>", "context": "token",
      "context_token": "<d>", "tensors": "m.", "experts_per_step": 2, "excluded_experts": [3, 1, 3]}})");
  ASSERT_TRUE(recipe.latent);
  EXPECT_EQ(recipe.latent->steps, 8);
  EXPECT_EQ(recipe.latent->open, "o");
  EXPECT_EQ(recipe.latent->token, "<ct>");
  EXPECT_EQ(recipe.latent->context, LatentThinking::Context::kToken);
  EXPECT_EQ(recipe.latent->context_token, "<d>");
  const models::ModelOptions options = model_options(recipe);
  ASSERT_TRUE(options.latent);
  EXPECT_EQ(options.latent->tensors, "m.");
  EXPECT_EQ(options.latent->experts_per_step, 2);
  EXPECT_THAT(options.latent->excluded_experts, ElementsAre(1, 3));
  EXPECT_FALSE(model_options(parse("{}")).latent);
}

struct Hostile {
  const char* json;
  const char* key;   // What the message must name.
  const char* says;  // And what it must say.
};

class HostileRecipe : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileRecipe, IsAnErrorThatNamesFileAndKey) {
  EXPECT_THAT(message_of<ModelError>([] { parse(GetParam().json); }),
              AllOf(HasSubstr("r.json"), HasSubstr(GetParam().key), HasSubstr(GetParam().says)));
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, HostileRecipe,
    ::testing::Values(
        Hostile{R"([])", "r.json", "is not a JSON object"},
        Hostile{R"({"pool": "last"})", "\"pool\"", "is not a known key"},
        Hostile{R"({"a\nb": 1})", "a\\x0ab", "is not a known key"},
        Hostile{R"({"pooling": "first"})", "pooling", "last, token, mean, none"},
        Hostile{R"({"pooling": 3})", "pooling", "must be one of"},
        Hostile{R"({"pooling": "token"})", "pooling_token", "is missing"},
        Hostile{R"({"pooling_token": "<emb>"})", "pooling_token", "only pooling"},
        Hostile{R"({"pooling_fallback": "last"})", "pooling_fallback", "only pooling"},
        Hostile{R"({"pooling": "token", "pooling_token": "t", "pooling_fallback": "mean"})",
                "pooling_fallback", "last"},
        Hostile{R"({"pooling": "mean", "without_trace": {"pooling": "last"}})", "without_trace", "only"},
        Hostile{R"({"without_trace": {"pooling": "token"}})", "without_trace.pooling_token", "is missing"},
        Hostile{R"({"max_length": 0})", "max_length", "from 1"},
        Hostile{R"({"pooling": "mean", "pooling_offset": 2})", "pooling_offset", "only pooling"},
        Hostile{R"({"without_trace": {"pooling_offset": -1}})", "without_trace.pooling_offset", "from 0"},
        Hostile{R"({"projection": {"tensors": "a."}})", "projection", "list of objects"},
        Hostile{R"({"projection": [{"activation": "tanh"}]})", "projection.tensors", "is missing"},
        Hostile{R"({"projection": [{"tensors": "a.", "activation": "swish"}]})", "projection.activation",
                "silu"},
        Hostile{R"({"projection": [{"tensors": "a.", "residual": 3}]})", "projection.residual",
                "true or false"},
        Hostile{R"({"pooling_offset": 2, "sparse": {"weights": "w"}})", "sparse.file", "is missing"},
        Hostile{R"({"pooling_offset": 2, "sparse": {"file": "f"}})", "sparse.weights", "is missing"},
        Hostile{R"({"sparse": {"file": "f", "weights": "w"}})", "sparse", "needs a pooling_offset"},
        Hostile{R"({"pooling_offset": 2, "sparse": {"file": "f", "weights": "w", "bias": "b"}})",
                "sparse.bias", "biases"},
        Hostile{R"({"bidirectional": "all"})", "bidirectional", "list of layers"},
        Hostile{R"({"bidirectional": [0.5]})", "bidirectional", "list of layers"},
        Hostile{R"({"latent": true})", "latent", "object"},
        Hostile{R"({"latent": {"steps": 8, "token": "t"}})", "latent.tensors", "missing"},
        Hostile{R"({"latent": {"steps": 8, "token": "t", "tensors": ""}})", "latent.tensors", "empty"},
        Hostile{R"({"latent": {"steps": -1, "token": "t", "tensors": "m."}})", "latent.steps", "-1"},
        Hostile{R"({"latent": {"steps": 4097, "token": "t", "tensors": "m."}})", "latent.steps", "4097"},
        Hostile{R"({"latent": {"steps": 8, "token": "t", "tensors": "m.", "context": "disc"}})",
                "latent.context", "disc"},
        Hostile{R"({"latent": {"steps": 8, "token": "t", "tensors": "m.", "context": "token"}})",
                "latent.context_token", "go together"},
        Hostile{R"({"latent": {"steps": 8, "token": "t", "tensors": "m.", "excluded_experts": [-1]}})",
                "latent.excluded_experts", "-1"},
        Hostile{R"({"latent": {"steps": 8, "token": "t", "tensors": "m."}, "bidirectional": true})", "latent",
                "goes with no"},
        Hostile{R"({"dims": {"to": 3}})", "dims.to", "from"},
        Hostile{R"({"applies_to": {"model_types": ["qwen2_vl"]}})", "applies_to", "every model of a family"},
        Hostile{R"({"applies_to": {"name": "x"}})", "applies_to.name", "names"},
        Hostile{R"({"image": {"min_side": 28}})", "image.small_side", "go together"},
        Hostile{R"({"image": {"first": {"min_pixels": 5, "max_pixels": 4}}})", "image.first.min_pixels",
                "more than max_pixels"},
        Hostile{R"({"trace": {"stop_tokens": "<emb>"}})", "trace.stop_tokens", "list of strings"},
        Hostile{R"({"normalize": "yes"})", "normalize", "true or false"},
        Hostile{R"({"dims": 64})", "dims", "list of whole numbers"},
        Hostile{R"({"dims": [0]})", "dims", "from 1"}, Hostile{R"({"dims": [64.5]})", "dims", "whole"},
        Hostile{R"({"dims": [18446744073709551615]})", "dims", "whole"},
        Hostile{R"({"instruction": 3})", "instruction", "must be an object"},
        Hostile{R"({"instruction": {"query": "x"}})", "instruction.query", "both, reason, embed, think"},
        Hostile{R"({"instruction": {"both": "x", "embed": "y"}})", "instruction.both", "excludes"},
        Hostile{R"({"tasks": []})", "tasks", "object"},
        Hostile{R"({"tasks": {"visdoc": "x"}})", "tasks.visdoc", "object"},
        Hostile{R"({"tasks": {"visdoc": {"candidate": "x"}}})", "tasks.visdoc.candidate", "query, target"},
        Hostile{R"({"tasks": {"visdoc": {"query": {"think": 1}}}})", "tasks.visdoc.query.think",
                "true or false"},
        Hostile{R"({"trace": {"suffix": "{end}"}})", "trace.suffix", "{eos}"},
        Hostile{R"({"trace": {"keep": "some"}})", "trace.keep", "all, conclusion"},
        Hostile{R"({"image": {"min_pixels": 5, "max_pixels": 4}})", "image.min_pixels",
                "more than max_pixels"},
        Hostile{R"({"image": {"max_pixels": 0}})", "image.max_pixels", "from 1"},
        Hostile{R"({"image": {"fps": 1}})", "image.fps", "is not a known key"},
        Hostile{R"({"video": {"fps": 0}})", "video.fps", "more than 0"},
        Hostile{R"({"video": {"fps": 1, "num_frames": 8}})", "video.num_frames", "exclude"},
        Hostile{R"({"video": {"resize": "none"}})", "video.resize", "qwen_vl_utils"},
        Hostile{R"({"video": {"total_pixels": 9}})", "video.total_pixels", "belongs to"},
        Hostile{R"({"video": {"min_frames": 9, "max_frames": 8}})", "video.min_frames",
                "more than max_frames"},
        Hostile{R"({"prompt": {"style": "jinja"}})", "prompt.style", "chat, raw"},
        Hostile{R"({"prompt": {"style": "raw"}})", "prompt.raw", "is missing"},
        Hostile{R"({"prompt": {"style": "raw", "raw": "{text}", "user": "x"}})", "prompt.user",
                "belongs to style"},
        Hostile{R"({"prompt": {"raw": "{text}"}})", "prompt.raw", "belongs to style"},
        Hostile{R"({"prompt": {"user": "{txt}"}})", "prompt.user", "{txt}"},
        Hostile{R"({"prompt": {"user": "{content} {media}"}})", "prompt.user", "twice"},
        Hostile{R"({"prompt": {"user": "hello {instruction}"}})", "prompt.user", "places nothing"},
        Hostile{R"({"prompt": {"user": [1]}})", "prompt.user", "must be a string"},
        Hostile{R"({"prompt": {"user": {}}})", "prompt.user", "list of strings"},
        Hostile{R"({"prompt": {"system": "{text}"}})", "prompt.system", "{instruction}"},
        Hostile{R"({"prompt": {"style": "raw", "raw": "{text}", "image": "<img>"}})", "prompt.image",
                "exactly once"},
        Hostile{R"({"prompt": {"blank_image": 100000}})", "prompt.blank_image", "from 0"},
        Hostile{R"({"prompt": {"positions": "2d"}})", "prompt.positions",
                "family, past_all_axes, sequential"},
        Hostile{R"({"prompt": {"no_text": "x"}})", "prompt.no_text", "object"},
        Hostile{R"({"decoding": {"beams": 4}})", "decoding.beams", "is not a known key"},
        Hostile{R"({"decoding": {"max_new_tokens": 0}})", "decoding.max_new_tokens", "from 1"},
        Hostile{R"({"decoding": {"temperature": "hot"}})", "decoding.temperature", "a number"},
        Hostile{R"({"decoding": {"temperature": -1}})", "decoding", "temperature is -1"},
        Hostile{R"({"decoding": {"stop": [""]}})", "decoding", "stop[0]"}),
    [](const auto& info) {
      std::string name = info.param.key;
      std::replace_if(
          name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
      return name + "_" + std::to_string(info.index);
    });

TEST(BundledRecipes, AllParse) {
  EXPECT_GE(bundled_recipes().size(), 3U);
  for (const auto& [name, json] : bundled_recipes()) {
    SCOPED_TRACE(name);
    const Recipe recipe = bundled_recipe(name);
    EXPECT_EQ(recipe.name, name);
    EXPECT_FALSE(recipe.description.empty());
  }
}

TEST(BundledRecipes, RawSaysNothingThatTransformersDoesNot) {
  const Recipe recipe = bundled_recipe("raw");
  EXPECT_TRUE(recipe.prompt.chat);
  EXPECT_TRUE(recipe.prompt.system.empty());
  EXPECT_TRUE(recipe.prompt.generation_prompt);
  EXPECT_EQ(recipe.trace.suffix, "");
  EXPECT_EQ(recipe.instruction.reason, "");
  EXPECT_EQ(recipe.pooling.pooling, Pooling::kLast);
  EXPECT_TRUE(recipe.normalize);
  EXPECT_FALSE(recipe.visuals.image_max_pixels);
}

TEST(BundledRecipes, TteHasTheNineFamiliesOnBothSides) {
  const Recipe recipe = bundled_recipe("tte");
  constexpr std::array kFamilies = {"image_cls", "image_qa",  "image_ret",  "image_vg", "video_cls",
                                    "video_qa",  "video_ret", "video_mret", "visdoc"};
  EXPECT_EQ(recipe.presets.size(), kFamilies.size());
  for (const char* family : kFamilies) {
    for (const Side side : {Side::kQuery, Side::kTarget}) {
      SCOPED_TRACE(family);
      const Instruction& preset = recipe.preset({family, side});
      EXPECT_THAT(preset.reason, AllOf(HasSubstr("<think>"), HasSubstr("</think>")));
      // What both models read is what lets them share states.
      EXPECT_EQ(preset.reason, preset.embed);
    }
  }
}

}  // namespace
}  // namespace tte::prompt
