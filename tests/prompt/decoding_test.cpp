#include "prompt/decoding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::tte::testing::message_of;
using ::tte::testing::TempDir;

class Decoding : public ::testing::Test {
 protected:
  GenerationConfig load(const char* generation_config, const char* config = "{}") {
    if (generation_config != nullptr) folder_.write("generation_config.json", generation_config);
    folder_.write("config.json", config);
    return load_generation_config(folder_.path(), *tokenizer_);
  }

  TempDir folder_;
  std::shared_ptr<const text::Tokenizer> tokenizer_ =
      text::Tokenizer::load(TTE_SOURCE_DIR "/models/nano/reasoner");
};

TEST_F(Decoding, EndTokensAreOneOrAList) {
  EXPECT_THAT(load(R"({"eos_token_id": 7})").end_ids, ElementsAre(7));
  EXPECT_THAT(load(R"({"eos_token_id": [7, 9]})").end_ids, ElementsAre(7, 9));
}

TEST_F(Decoding, EndTokensFallBackToConfigThenTokenizer) {
  EXPECT_THAT(load("{}", R"({"eos_token_id": 3})").end_ids, ElementsAre(3));
  EXPECT_THAT(load("{}", R"({"text_config": {"eos_token_id": [4]}})").end_ids, ElementsAre(4));
  ASSERT_TRUE(tokenizer_->eos_id());
  EXPECT_THAT(load("{}").end_ids, ElementsAre(*tokenizer_->eos_id()));
}

TEST_F(Decoding, AMissingFileIsNoError) {
  EXPECT_THAT(load(nullptr, R"({"eos_token_id": 3})").end_ids, ElementsAre(3));
}

TEST_F(Decoding, SamplingCountsOnlyWithDoSample) {
  const auto off = load(R"({"temperature": 0.7, "top_k": 3, "top_p": 0.5, "repetition_penalty": 1.05})");
  EXPECT_FALSE(off.options.temperature);
  EXPECT_FALSE(off.options.top_k);
  EXPECT_EQ(off.options.repetition_penalty, 1.05);
  const auto on = load(R"({"do_sample": true, "temperature": 0.7, "top_k": 3, "top_p": 0.5})");
  EXPECT_EQ(on.options.temperature, 0.7);
  EXPECT_EQ(on.options.top_k, 3);
  EXPECT_EQ(on.options.top_p, 0.5);
  // The values transformers takes when do_sample is all that is said.
  const auto bare = load(R"({"do_sample": true})");
  EXPECT_EQ(bare.options.temperature, 1.0);
  EXPECT_EQ(bare.options.top_k, 50);
}

TEST_F(Decoding, HostileFilesAreErrorsThatNameTheFile) {
  for (const char* json : {R"({"eos_token_id": "x"})", R"({"eos_token_id": [1, "x"]})",
                           R"({"eos_token_id": -1})", R"({"do_sample": 3})", R"({"repetition_penalty": -2})",
                           R"({"do_sample": true, "temperature": "hot"})", "nonsense"}) {
    SCOPED_TRACE(json);
    EXPECT_THAT(message_of<ModelError>([&] { load(json); }), HasSubstr("generation_config.json"));
  }
}

TEST_F(Decoding, CallerBeforeRecipeBeforeCheckpointBeforeGreedy) {
  const auto config = load(R"({"do_sample": true, "temperature": 0.7, "top_k": 3, "top_p": 0.5, "min_p": 0.1,
                               "repetition_penalty": 1.2, "max_new_tokens": 9, "min_new_tokens": 4,
                               "stop_strings": "end"})");
  GenerateOptions recipe;
  recipe.top_k = 22;
  recipe.max_think_tokens = 5;
  GenerateOptions caller;
  caller.seed = 3;
  const GenerateOptions out = resolve(caller, recipe, config);
  EXPECT_EQ(out.temperature, 0.0) << "the file's sampling is not asked for";
  EXPECT_EQ(out.top_k, 22);
  EXPECT_EQ(out.top_p, 1.0);
  EXPECT_EQ(out.min_p, 0.0);
  EXPECT_EQ(out.repetition_penalty, 1.2);
  EXPECT_EQ(out.max_new_tokens, 9);
  EXPECT_EQ(out.min_new_tokens, 4);
  EXPECT_EQ(out.max_think_tokens, 5);
  EXPECT_EQ(out.seed, 3U);
  EXPECT_THAT(out.stop, ElementsAre("end"));
  caller.stop = {"here"};
  EXPECT_THAT(resolve(caller, recipe, config).stop, ElementsAre("here"));
}

TEST_F(Decoding, WhatTteDoesNotHaveIsRefused) {
  const auto beams = load(R"({"num_beams": 4})");
  EXPECT_THAT(message_of<ModelError>([&] { resolve({}, {}, beams); }), HasSubstr("num_beams"));
  const auto sampling = load(R"({"do_sample": true, "typical_p": 0.5})");
  EXPECT_NO_THROW(resolve({}, {}, sampling)) << "greedy, where it changes nothing";
  GenerateOptions asks;
  asks.checkpoint_sampling = true;
  EXPECT_THAT(message_of<ModelError>([&] { resolve(asks, {}, sampling); }), HasSubstr("typical_p"));
  EXPECT_THAT(message_of<ModelError>([&] { resolve({}, asks, sampling); }), HasSubstr("typical_p"));
}

TEST_F(Decoding, CallerBeforeRecipeBeforeTheCheckpointsSampling) {
  GenerationConfig config;
  config.options.temperature = 0.1;
  config.options.top_k = 11;
  config.options.top_p = 0.11;
  GenerateOptions recipe;
  recipe.temperature = 0.2;
  recipe.top_k = 22;
  recipe.stop = {"recipe"};
  GenerateOptions caller;
  caller.checkpoint_sampling = true;
  caller.temperature = 0.3;
  const GenerateOptions out = resolve(caller, recipe, config);
  EXPECT_EQ(out.temperature, 0.3);
  EXPECT_EQ(out.top_k, 22);
  EXPECT_EQ(out.top_p, 0.11);
  EXPECT_EQ(out.min_p, 0.0);
  EXPECT_EQ(out.repetition_penalty, 1.0);
  EXPECT_FALSE(out.max_new_tokens) << "it depends on the model and the prompt";
  EXPECT_THAT(out.stop, ElementsAre("recipe"));
  EXPECT_FALSE(out.seed);
  EXPECT_FALSE(out.max_think_tokens);
}

TEST_F(Decoding, NothingAnywhereIsGreedy) {
  const GenerateOptions out = resolve({}, {}, {});
  EXPECT_EQ(out.temperature, 0.0);
  EXPECT_EQ(out.top_k, 0);
  EXPECT_EQ(out.top_p, 1.0);
}

TEST_F(Decoding, TheFilesLeastGivesWayToTheCallersMost) {
  const auto config = load(R"({"min_new_tokens": 6})");
  GenerateOptions caller;
  caller.max_new_tokens = 4;
  EXPECT_EQ(resolve(caller, {}, config).min_new_tokens, 4);
  caller.max_new_tokens = 8;
  EXPECT_EQ(resolve(caller, {}, config).min_new_tokens, 6);
}

TEST_F(Decoding, ACombinationOutOfRangeIsAnError) {
  GenerateOptions recipe;
  recipe.max_new_tokens = 4;
  GenerateOptions caller;
  caller.min_new_tokens = 8;
  EXPECT_THAT(message_of<InputError>([&] { resolve(caller, recipe, {}); }),
              AllOf(HasSubstr("min_new_tokens is 8"), HasSubstr("4")));
}

}  // namespace
}  // namespace tte::prompt
