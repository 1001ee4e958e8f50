// Checkpoints of other naming generations, and ones that do not fit.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "base/json.h"
#include "expect_error.h"
#include "models/driver.h"
#include "models/model.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::testing {
namespace {

using base::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// A copy of a golden checkpoint with another config, other tensor names, or one float32 tensor more.
struct Edited {
  TempDir folder;
  Json config, header;
  std::string data;

  explicit Edited(const std::string& checkpoint) {
    config = Json::parse(read(kQwen2VlFolder / checkpoint / "config.json"));
    folder.write("preprocessor_config.json", read(kQwen2VlFolder / checkpoint / "preprocessor_config.json"));
    const std::string file = read(kQwen2VlFolder / checkpoint / "model.safetensors");
    std::uint64_t size = 0;
    std::memcpy(&size, file.data(), sizeof size);
    header = Json::parse(file.substr(sizeof size, size));
    data = file.substr(sizeof size + size);
  }

  void rename(const std::function<std::string(std::string)>& rule) {
    Json renamed;
    for (auto& [name, entry] : header.items()) renamed[name == "__metadata__" ? name : rule(name)] = entry;
    header = renamed;
  }
  void rename(const std::string& from, const std::string& to) {
    ASSERT_TRUE(header.contains(from)) << from;
    rename([&](const std::string& name) { return name == from ? to : name; });
  }
  void add(const std::string& name, std::size_t values) {
    const std::size_t begin = data.size();
    data.append(values * sizeof(float), '\0');
    header[name] = {{"dtype", "F32"}, {"shape", {values}}, {"data_offsets", {begin, data.size()}}};
  }

  std::shared_ptr<const models::Model> open() {
    folder.write("config.json", config.dump());
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    const std::uint64_t size = text.size();
    std::string file(reinterpret_cast<const char*>(&size), sizeof size);
    folder.write("model.safetensors", file + text + data);
    return open_model(folder.path(), at::kFloat);
  }
  std::string error() {
    return message_of<ModelError>([&] { open(); });
  }
};

at::Tensor some_logits(const models::Model& model) {
  return model.logits(at::linspace(-1, 1, model.info().hidden_size).unsqueeze(0));
}

TEST(Qwen2VlLoad, AMissingTensorIsNamed) {
  Edited edited("gqa_tied_new");
  edited.rename("visual.blocks.1.norm1.bias", "visual.blocks.1.norm1.bais");
  EXPECT_THAT(edited.error(),
              AllOf(HasSubstr("visual.blocks.1.norm1.bias"), HasSubstr(edited.folder.path().string())));
}

TEST(Qwen2VlLoad, ATensorTooManyIsNamed) {
  Edited edited("gqa_tied_new");
  edited.add("model.layers.2.mlp.gate_proj.weight", 4);
  EXPECT_THAT(edited.error(), HasSubstr("model.layers.2.mlp.gate_proj.weight"));
}

TEST(Qwen2VlLoad, AnotherShapeIsNamed) {
  Edited edited("gqa_tied_new");
  edited.config["text_config"]["intermediate_size"] = 40;
  EXPECT_THAT(edited.error(), HasSubstr("gate_proj.weight"));
}

TEST(Qwen2VlLoad, ABiasTooFewIsNamed) {
  Edited edited("gqa_tied_new");
  edited.rename("model.layers.1.self_attn.k_proj.bias", "model.layers.1.self_attn.x.bias");
  EXPECT_THAT(edited.error(), HasSubstr("model.layers.1.self_attn.k_proj.bias"));
}

TEST(Qwen2VlLoad, SavedFrequenciesAreNotNeeded) {
  Edited edited("gqa_tied_new");
  edited.add("visual.rotary_pos_emb.inv_freq", 2);
  edited.add("model.rotary_emb.inv_freq", 4);
  EXPECT_NO_THROW(edited.open());
}

TEST(Qwen2VlLoad, AnUntiedHeadIsMissedOnlyByWhoGenerates) {
  Edited edited("gqa_tied_new");
  edited.config["tie_word_embeddings"] = false;
  const auto model = edited.open();
  EXPECT_THAT(message_of<ModelError>([&] { (void)some_logits(*model); }), HasSubstr("lm_head.weight"));
}

TEST(Qwen2VlLoad, AHeadOfOtherValuesIsNotTied) {
  Edited edited("mha_untied_flat");
  edited.config["tie_word_embeddings"] = true;
  const auto untied = open_model(kQwen2VlFolder / "mha_untied_flat", at::kFloat);
  EXPECT_TRUE(at::equal(some_logits(*edited.open()), some_logits(*untied)));
}

TEST(Qwen2VlLoad, OnlyTheTiedHeadWasSaved) {
  Edited edited("gqa_tied_new");
  edited.rename("model.embed_tokens.weight", "lm_head.weight");
  const auto original = open_model(kQwen2VlFolder / "gqa_tied_new", at::kFloat);
  EXPECT_TRUE(at::equal(some_logits(*edited.open()), some_logits(*original)));
}

TEST(Qwen2VlLoad, ABareModelEmbedsButCannotGenerate) {
  Edited edited("gqa_tied_new");
  edited.config["architectures"] = {"Qwen2VLModel"};
  edited.config["tie_word_embeddings"] = false;
  edited.rename([](const std::string& name) {
    return name.starts_with("model.") ? name.substr(6)
                                      : name;  // layers.0..., embed_tokens.weight, norm.weight
  });
  const auto model = edited.open();
  const auto original = open_model(kQwen2VlFolder / "gqa_tied_new", at::kFloat);
  const auto items = load_items(kQwen2VlFolder / "items.safetensors");
  const auto preprocessor = models::load_preprocessor(kQwen2VlFolder / "gqa_tied_new");
  const Item& item = items.at("image");
  Sequence bare(model, preprocessor->expand_placeholders(item.ids, item.visuals)),
      whole(original, preprocessor->expand_placeholders(item.ids, item.visuals));
  EXPECT_TRUE(at::equal(hidden_states(*model, bare, {64}), hidden_states(*original, whole, {64})));
  EXPECT_NO_THROW(original->check_generates());
  for (const auto& use : std::vector<std::function<void()>>{[&] { model->check_generates(); },
                                                            [&] { (void)some_logits(*model); }}) {
    EXPECT_THAT(message_of<ModelError>(use), AllOf(HasSubstr("config.json"), HasSubstr("lm_head.weight")));
  }
}

TEST(Qwen2VlLoad, TheSameTowerUnderOtherNamesIsTheSameTower) {
  Edited edited("gqa_tied_new");
  edited.rename([](const std::string& name) { return name.starts_with("visual.") ? "model." + name : name; });
  edited.config["text_config"]["rms_norm_eps"] = 1e-5;
  const auto model = edited.open();
  const auto original = open_model(kQwen2VlFolder / "gqa_tied_new", at::kFloat);
  EXPECT_EQ(model->info().vision_fingerprint, original->info().vision_fingerprint);
  EXPECT_NE(model->info().fingerprint, original->info().fingerprint);
}

TEST(Qwen2VlLoad, StateBytesThatHoldNothing) {
  EXPECT_THAT(message_of<DeviceError>([&] { open_model(kQwen2VlFolder / "gqa_tied_new", at::kFloat, 100); }),
              AllOf(HasSubstr("100 bytes"), HasSubstr("state_bytes")));
}

TEST(Qwen2VlLoad, ThePreprocessorNeedsNoWeights) {
  TempDir folder;
  folder.write("config.json", read(kQwen2VlFolder / "gqa_tied_new/config.json"));
  folder.write("preprocessor_config.json", read(kQwen2VlFolder / "gqa_tied_new/preprocessor_config.json"));
  const auto preprocessor = models::load_preprocessor(folder.path());
  EXPECT_EQ(preprocessor->image_token(), 150);
  EXPECT_EQ(preprocessor->video_token(), 151);
}

}  // namespace
}  // namespace tte::testing
