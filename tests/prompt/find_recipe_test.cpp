#include "prompt/find_recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "expect_error.h"
#include "prompt/fixture.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::tte::testing::message_of;
using ::tte::testing::nano_files;
using ::tte::testing::TempDir;

// A checkpoint of the family and name, with nano's tokenizer and template.
Recipe found(const TempDir& folder, const std::string& name, const std::string& model_type = "qwen2_vl") {
  const auto path = folder.path() / name;
  std::filesystem::create_directories(path);
  folder.write(name + "/config.json", R"({"model_type": ")" + model_type + "\"}");
  return find_recipe(path, *nano_files());
}

TEST(FindRecipe, LooksInItsOrder) {
  const TempDir folder;
  folder.write("recipe.json", R"({"name": "own"})");
  EXPECT_EQ(find_recipe(folder.path(), *nano_files()).name, "own");
  EXPECT_THAT(find_recipe(folder.path(), *nano_files()).reason, HasSubstr("recipe.json of the checkpoint"));
  EXPECT_EQ(named_recipe("tte").name, "tte");
  const auto file = folder.write("other.json", R"({"name": "other"})");
  EXPECT_EQ(named_recipe(file.string()).name, "other");
  EXPECT_THAT(message_of<ModelError>([&] { (void)named_recipe("tte2"); }),
              AllOf(HasSubstr("tte2"), HasSubstr("qwen2_vl_vlm2vec"), HasSubstr("raw")));
  folder.write("recipe.json", R"({"name": )");
  EXPECT_THAT(message_of<ModelError>([&] { (void)find_recipe(folder.path(), *nano_files()); }),
              HasSubstr("recipe.json"));
}

TEST(FindRecipe, AFileMayExtendABundledOne) {
  const TempDir folder;
  folder.write("words.txt", "Embed this, and end with <gen_emb>.\n");
  const auto file = folder.write(
      "recipe.json",
      R"({"extends": "ume_r1", "prompt": {"request_file": "words.txt", "blank_image": null}, "dims": [4]})");
  const Recipe recipe = find_recipe(folder.path(), *nano_files());
  EXPECT_EQ(recipe.name, "ume_r1");
  EXPECT_EQ(recipe.prompt.request, "Embed this, and end with <gen_emb>.");
  EXPECT_EQ(recipe.prompt.blank_image, 0);
  EXPECT_TRUE(recipe.prompt.strip_text);
  EXPECT_EQ(recipe.dims->size(), 1U);
  EXPECT_THAT(recipe.reason, HasSubstr("extends ume_r1"));
  EXPECT_EQ(recipe.source["prompt"]["request"], "Embed this, and end with <gen_emb>.");

  folder.write("recipe.json", R"({"extends": "umer1"})");
  EXPECT_THAT(message_of<ModelError>([&] { (void)find_recipe(folder.path(), *nano_files()); }),
              AllOf(HasSubstr("umer1"), HasSubstr("ume_r1_given")));
  folder.write("recipe.json", R"({"prompt": {"request_file": "none.txt"}})");
  EXPECT_THAT(message_of<ModelError>([&] { (void)find_recipe(folder.path(), *nano_files()); }),
              HasSubstr("none.txt"));
}

TEST(FindRecipe, ByTheNameOfTheFolderOrOfTheRepository) {
  const TempDir folder;
  EXPECT_EQ(found(folder, "gme-Qwen2-VL-2B-Instruct").name, "gme");
  EXPECT_THAT(found(folder, "gme-Qwen2-VL-2B-Instruct").reason, HasSubstr("gme-Qwen2-VL-2B-Instruct"));
  EXPECT_EQ(found(folder, "models--qihoo360--RzenEmbed/snapshots/0123abc").name, "rzenembed");
  EXPECT_EQ(found(folder, "models--x--RzenEmbed/other/0123abc").name, "raw");
  // Another family, or a name that only contains it, is not it.
  EXPECT_EQ(found(folder, "gme-Qwen2-VL-7B-Instruct", "qwen3").name, "raw");
  EXPECT_EQ(found(folder, "my-gme-Qwen2-VL-2B").name, "raw");
}

TEST(FindRecipe, NoneFitsByAccident) {
  const TempDir folder;
  for (const char* type : {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3", "llama", "qwen3_5", ""}) {
    const Recipe recipe = found(folder, std::string("model-") + type, type);
    EXPECT_EQ(recipe.name, "raw") << type;
    EXPECT_THAT(recipe.reason, HasSubstr("no recipe fits")) << type;
  }
}

TEST(FindRecipe, TokensThatATokenizerHasNotKeepARecipeAway) {
  // Nano's tokenizer has none of UME-R1's tokens, nor RGE's.
  for (const auto& [name, json] : bundled_recipes()) {
    const auto rule = bundled_recipe(name).applies_to;
    if (!rule || rule->tokens.empty()) continue;
    for (const std::string& token : rule->tokens) EXPECT_FALSE(nano_files()->tokenizer->id_of(token)) << name;
  }
}

TEST(NanoRecipes, Parse) {
  for (const char* role : {"reasoner", "embedder"}) {
    const Recipe recipe = find_recipe(std::string(TTE_SOURCE_DIR "/models/nano/") + role, *nano_files());
    EXPECT_EQ(recipe.presets.size(), 9U);
    EXPECT_EQ(recipe.trace.suffix, "<|im_end|>");
  }
}

}  // namespace
}  // namespace tte::prompt
