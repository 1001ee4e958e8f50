#include "prompt/sentence_transformers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "expect_error.h"
#include "prompt/recipe.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::tte::testing::message_of;
using ::tte::testing::TempDir;

constexpr const char* kModules = R"([
  {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
  {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
  {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])";

struct Folder {
  Folder() {
    std::filesystem::create_directories(folder_.path() / "1_Pooling");
    folder_.write("modules.json", kModules);
    folder_.write("1_Pooling/config.json",
                  R"({"word_embedding_dimension": 64, "pooling_mode_lasttoken": true})");
  }
  [[nodiscard]] Recipe recipe() const {
    return parse_recipe(*recipe_of_modules(folder_.path()), "modules.json");
  }
  [[nodiscard]] std::string refusal() const {
    return message_of<ModelError>([&] { (void)recipe_of_modules(folder_.path()); });
  }
  TempDir folder_;
};

class SentenceTransformers : public ::testing::Test, protected Folder {};

TEST_F(SentenceTransformers, OfAFolderWithoutModulesIsNothing) {
  std::filesystem::remove(folder_.path() / "modules.json");
  EXPECT_FALSE(recipe_of_modules(folder_.path()));
}

TEST_F(SentenceTransformers, ARerankersModulesAreNoEmbedders) {
  folder_.write("config_sentence_transformers.json", R"({"model_type": "CrossEncoder"})");
  EXPECT_FALSE(recipe_of_modules(folder_.path()));
}

TEST_F(SentenceTransformers, PoolingNormAndTheTextItself) {
  const Recipe read = recipe();
  EXPECT_EQ(read.pooling.pooling, Pooling::kLast);
  EXPECT_TRUE(read.normalize);
  EXPECT_FALSE(read.prompt.chat);
  EXPECT_THAT(read.prompt.raw, ElementsAre("{media}{instruction}{text}"));
  EXPECT_EQ(read.trace.suffix, "");  // So that the tokenizer's own ends the prompt.
  EXPECT_EQ(read.max_length, 0);
}

TEST_F(SentenceTransformers, PromptsArePresets) {
  folder_.write(
      "config_sentence_transformers.json",
      R"({"prompts": {"query": "Q: ", "passage": "P: ", "sts": "S: "}, "default_prompt_name": "sts"})");
  const Recipe read = recipe();
  EXPECT_EQ(read.instruction.embed, "S: ");
  EXPECT_EQ(read.preset({"retrieval", Side::kQuery}).embed, "Q: ");
  EXPECT_EQ(read.preset({"retrieval", Side::kTarget}).embed, "P: ");
  EXPECT_EQ(read.preset({"passage", Side::kQuery}).embed, "P: ");
}

TEST_F(SentenceTransformers, LengthsAreTheLeastThatIsSaid) {
  folder_.write("tokenizer_config.json", R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(recipe().max_length, 0);
  folder_.write("config.json", R"({"max_position_embeddings": 512})");
  EXPECT_EQ(recipe().max_length, 512);
  folder_.write("sentence_bert_config.json", R"({"max_seq_length": 128})");
  EXPECT_EQ(recipe().max_length, 128);
}

TEST_F(SentenceTransformers, MessagesAreWrittenWithTheChatTemplate) {
  folder_.write("sentence_bert_config.json",
                R"({"modality_config": {"text": {"method": "forward"}, "message": {"method": "forward"}},
                    "processing_kwargs": {"chat_template": {"add_generation_prompt": true}}})");
  const Recipe read = recipe();
  EXPECT_TRUE(read.prompt.chat);
  EXPECT_TRUE(read.prompt.generation_prompt);
  EXPECT_THAT(read.prompt.system, ElementsAre("{instruction}"));
}

constexpr const char* kWithDense = R"([
  {"type": "sentence_transformers.models.Transformer", "path": ""},
  {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
  {"type": "sentence_transformers.base.modules.dense.Dense", "path": "2_Dense"},
  {"type": "sentence_transformers.models.Normalize", "path": "3_Normalize"}])";

TEST_F(SentenceTransformers, DenseModulesAreProjections) {
  std::filesystem::create_directories(folder_.path() / "2_Dense");
  folder_.write("modules.json", kWithDense);
  folder_.write("2_Dense/config.json", R"({"in_features": 64, "out_features": 32, "bias": false,
      "activation_function": "torch.nn.modules.linear.Identity", "use_residual": true})");
  const Recipe read = recipe();
  ASSERT_EQ(read.projections.size(), 1U);
  EXPECT_EQ(read.projections[0].file, "2_Dense/model.safetensors");
  EXPECT_EQ(read.projections[0].tensors, "linear.");
  EXPECT_EQ(read.projections[0].residual_tensors, "residual.");
  EXPECT_EQ(read.projections[0].activation, models::ProjectionActivation::kIdentity);
  EXPECT_TRUE(read.normalize);
  folder_.write("2_Dense/config.json", R"({"in_features": 64, "out_features": 64})");  // Tanh is the default.
  EXPECT_EQ(recipe().projections[0].activation, models::ProjectionActivation::kTanh);
  EXPECT_FALSE(recipe().projections[0].residual);
  for (const auto& [json, says] :
       {std::pair{R"({"activation_function": "torch.nn.modules.activation.Softmax"})", "Softmax"},
        std::pair{R"({"activation_function": "mine.Tanh"})", "mine.Tanh"},
        std::pair{R"({"module_input_name": "token_embeddings"})", "token_embeddings"}}) {
    folder_.write("2_Dense/config.json", json);
    EXPECT_THAT(refusal(), HasSubstr(says));
  }
}

struct Refused {
  const char* file;
  const char* json;
  const char* says;
};

TEST_F(SentenceTransformers, WhatTteDoesNotHaveIsRefusedByName) {
  const Refused cases[] = {
      {"modules.json",
       R"([{"type": "sentence_transformers.models.Transformer", "path": ""},
           {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])",
       "in front of the pooling"},
      {"modules.json",
       R"([{"type": "sentence_transformers.models.Transformer", "path": ""},
           {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
           {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
           {"type": "sentence_transformers.models.Dense", "path": "3_Dense"}])",
       "behind Normalize"},
      {"modules.json",
       R"([{"type": "sentence_transformers.models.Transformer", "path": ""},
           {"type": "sentence_transformers.models.LayerNorm", "path": "2_L"}])",
       "the module LayerNorm"},
      {"modules.json", R"([{"type": "custom_st.Transformer", "path": ""}])", "custom_st.Transformer"},
      {"modules.json", R"([{"type": "sentence_transformers.models.Transformer", "path": "0_T"}])", "0_T"},
      {"modules.json", R"([{"type": "sentence_transformers.models.Transformer", "path": ""}])",
       "without a pooling"},
      {"modules.json", "{}", "not a list"},
      {"1_Pooling/config.json", R"({"pooling_mode": "max"})", "the pooling \"max\""},
      {"1_Pooling/config.json", R"({"pooling_mode": ["mean", "lasttoken"]})", "2 poolings"},
      {"1_Pooling/config.json", R"({"pooling_mode_cls_token": true})", "cls_token"},
      {"sentence_bert_config.json", R"({"do_lower_case": true})", "do_lower_case"},
      {"config_sentence_transformers.json", R"({"truncate_dim": 16})", "first 16 dimensions (truncate_dim)"},
      {"tokenizer_config.json", R"({"model_max_length": 5, "truncation_side": "left"})", "side \"left\""},
      {"sentence_bert_config.json",
       R"({"max_seq_length": 5, "processor_kwargs": {"truncation_side": "left"}})", "truncation_side"},
      {"sentence_bert_config.json", R"({"max_seq_length": 5, "tokenizer_args": {"truncation_side": "left"}})",
       "truncation_side"},
      {"config_sentence_transformers.json", R"({"prompts": {}, "default_prompt_name": "q"})",
       "default_prompt_name"},
  };
  for (const Refused& one : cases) {
    const Folder fresh;
    fresh.folder_.write(one.file, one.json);
    EXPECT_THAT(fresh.refusal(), HasSubstr(one.says));
  }
  folder_.write("tokenizer_config.json", R"({"truncation_side": "left"})");  // Nothing is cut.
  folder_.write("config_sentence_transformers.json", R"({"truncate_dim": null})");
  folder_.write("1_Pooling/config.json", R"({"pooling_mode": "mean", "include_prompt": false})");
  EXPECT_EQ(recipe().pooling.pooling, Pooling::kMean);
  folder_.write("config_sentence_transformers.json", R"({"prompts": {"query": "Q: "}})");
  EXPECT_THAT(refusal(), HasSubstr("include_prompt"));
}

}  // namespace
}  // namespace tte::prompt
