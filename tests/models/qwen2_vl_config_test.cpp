#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>

#include "base/json.h"
#include "expect_error.h"
#include "models/qwen2_vl/config.h"
#include "nn/rope.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::models::qwen2_vl {
namespace {

using base::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempDir;

// As the 2B checkpoint of 2024 has it.
Json flat() {
  return Json::parse(R"({
    "architectures": ["Qwen2VLForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "vision_start_token_id": 151652, "vision_end_token_id": 151653,
    "vision_token_id": 151654, "image_token_id": 151655, "video_token_id": 151656, "hidden_act": "silu",
    "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 8960, "max_position_embeddings": 32768,
    "max_window_layers": 28, "model_type": "qwen2_vl", "num_attention_heads": 12, "num_hidden_layers": 28,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "use_sliding_window": false,
    "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
      "hidden_size": 1536, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
      "temporal_patch_size": 2},
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": 151936})");
}

// The same as transformers 5 writes it.
Json nested() {
  Json config = flat();
  Json text = Json::object();
  for (const char* key :
       {"hidden_act", "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads",
        "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "use_sliding_window", "vocab_size"}) {
    text[key] = config[key];
    config.erase(key);
  }
  for (const char* key : {"rope_scaling", "rope_theta", "torch_dtype", "sliding_window"}) config.erase(key);
  text["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e6}, {"mrope_section", {16, 24, 24}}};
  text["layer_types"] = std::vector<std::string>(28, "full_attention");
  text["sliding_window"] = nullptr;
  config["text_config"] = text;
  config["dtype"] = "bfloat16";
  config["vision_config"]["rope_parameters"] = {{"rope_type", "axial"}, {"rope_theta", 10000.0}};
  return config;
}

Config load(const Json& json) {
  const TempDir folder;
  folder.write("config.json", json.dump());
  return load_config(folder.path());
}

void expect_2b(const Config& config) {
  EXPECT_EQ(config.text.vocab_size, 151936);
  EXPECT_EQ(config.text.hidden_size, 1536);
  EXPECT_EQ(config.text.intermediate_size, 8960);
  EXPECT_EQ(config.text.layers, 28);
  EXPECT_EQ(config.text.heads, 12);
  EXPECT_EQ(config.text.kv_heads, 2);
  EXPECT_EQ(config.text.head_dim, 128);
  EXPECT_EQ(config.text.max_positions, 32768);
  EXPECT_EQ(config.text.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.text.rope_theta, 1e6);
  EXPECT_EQ(config.text.rope_axes, nn::contiguous_sections({16, 24, 24}));
  EXPECT_EQ(config.vision.depth, 32);
  EXPECT_EQ(config.vision.hidden_size, 1280);
  EXPECT_EQ(config.vision.out_size, 1536);
  EXPECT_EQ(config.vision.heads, 16);
  EXPECT_EQ(config.vision.head_dim, 80);
  EXPECT_EQ(config.vision.mlp_dim, 5120);
  EXPECT_EQ(config.vision.activation, kernels::Activation::kQuickGelu);
  EXPECT_EQ(config.vision.patch_values(), 1176);
  EXPECT_EQ(config.vision.rope_theta, 1e4);
  EXPECT_EQ(config.tokens.image, 151655);
  EXPECT_EQ(config.tokens.video, 151656);
  EXPECT_TRUE(config.text.tied);
}

TEST(Qwen2VlConfig, Flat) {
  expect_2b(load(flat()));
}
TEST(Qwen2VlConfig, Nested) {
  expect_2b(load(nested()));
}

TEST(Qwen2VlConfig, NestedWithTheOldRopeNames) {
  Json config = nested();
  config["text_config"].erase("rope_parameters");
  config["text_config"]["rope_theta"] = 1e6;
  config["text_config"]["rope_scaling"] = {
      {"type", "default"}, {"rope_type", "default"}, {"mrope_section", {16, 24, 24}}};
  expect_2b(load(config));
}

TEST(Qwen2VlConfig, TiedMayStandInTheTextConfig) {
  Json config = nested();
  config.erase("tie_word_embeddings");
  EXPECT_FALSE(load(config).text.tied);
  config["text_config"]["tie_word_embeddings"] = true;
  EXPECT_TRUE(load(config).text.tied);
}

TEST(Qwen2VlConfig, DefaultsAreThoseOfTransformers) {
  Json config = Json::parse(R"({"model_type": "qwen2_vl", "vision_config": {"hidden_size": 8192}})");
  const Config loaded = load(config);
  EXPECT_EQ(loaded.text.vocab_size, 152064);
  EXPECT_EQ(loaded.text.layers, 80);
  EXPECT_EQ(loaded.text.kv_heads, 8);
  EXPECT_EQ(loaded.text.rms_norm_eps, 1e-5);
  EXPECT_EQ(loaded.text.rope_theta, 1e6);
  EXPECT_EQ(loaded.vision.depth, 32);
  EXPECT_FALSE(loaded.text.tied);
}

TEST(Qwen2VlConfig, AnEmbedderWithoutAHead) {
  Json config = flat();
}

struct Nonsense {
  const char* what;
  std::function<void(Json&)> damage;
  const char* key;
  const char* value;
};

TEST(Qwen2VlConfig, NonsenseNamesTheKeyAndItsValue) {
  const Nonsense cases[] = {
      {"no heads", [](Json& c) { c["num_attention_heads"] = 0; }, "num_attention_heads", "0"},
      {"heads that do not divide", [](Json& c) { c["num_attention_heads"] = 11; }, "num_attention_heads",
       "11"},
      {"kv heads that do not divide", [](Json& c) { c["num_key_value_heads"] = 5; }, "num_key_value_heads",
       "5"},
      {"a negative size", [](Json& c) { c["hidden_size"] = -1536; }, "hidden_size", "-1536"},
      {"a text for a number", [](Json& c) { c["vocab_size"] = "many"; }, "vocab_size", "many"},
      {"a fraction", [](Json& c) { c["num_hidden_layers"] = 27.5; }, "num_hidden_layers", "27.5"},
      {"an eps of zero", [](Json& c) { c["rms_norm_eps"] = 0.0; }, "rms_norm_eps", "0.0"},
      {"sections that do not add up",
       [](Json& c) {
         c["rope_scaling"]["mrope_section"] = {16, 24, 25};
       },
       "rope_scaling.mrope_section", "[16,24,25]"},
      {"two sections",
       [](Json& c) {
         c["rope_scaling"]["mrope_section"] = {32, 32};
       },
       "rope_scaling.mrope_section", "[32,32]"},
      {"a negative section",
       [](Json& c) {
         c["rope_scaling"]["mrope_section"] = {-16, 56, 24};
       },
       "rope_scaling.mrope_section", "[-16,56,24]"},
      {"another rope", [](Json& c) { c["rope_scaling"]["type"] = "yarn"; }, "rope_scaling.type", "yarn"},
      {"sliding windows", [](Json& c) { c["use_sliding_window"] = true; }, "use_sliding_window", "true"},
      {"sliding layers", [](Json& c) { c["layer_types"] = {"sliding_attention"}; }, "layer_types", "sliding"},
      {"another activation", [](Json& c) { c["hidden_act"] = "relu"; }, "hidden_act", "relu"},
      {"another head size", [](Json& c) { c["head_dim"] = 64; }, "head_dim", "64"},
      {"a placeholder past the vocabulary", [](Json& c) { c["image_token_id"] = 200000; }, "image_token_id",
       "200000"},
      {"one placeholder for both", [](Json& c) { c["video_token_id"] = 151655; }, "video_token_id", "151655"},
      {"vision heads", [](Json& c) { c["vision_config"]["num_heads"] = 7; }, "vision_config.num_heads", "7"},
      {"vision activation", [](Json& c) { c["vision_config"]["hidden_act"] = "x"; },
       "vision_config.hidden_act", "x"},
      {"vision size", [](Json& c) { c["vision_config"]["hidden_size"] = 1000; }, "vision_config.hidden_size",
       "1000"},
      {"vision depth", [](Json& c) { c["vision_config"]["depth"] = 0; }, "vision_config.depth", "0"},
      {"a patch of nothing", [](Json& c) { c["vision_config"]["patch_size"] = 0; },
       "vision_config.patch_size", "0"},
      {"2^32 and the right size", [](Json& c) { c["vision_config"]["patch_size"] = 4294967310; },
       "vision_config.patch_size", "4294967310"},
      {"a size past 64 bits", [](Json& c) { c["vocab_size"] = 18446744073709551615ULL; }, "vocab_size",
       "18446744073709551615"},
      {"a flag for a number", [](Json& c) { c["num_hidden_layers"] = true; }, "num_hidden_layers", "true"},
      {"grey images", [](Json& c) { c["vision_config"]["in_channels"] = 1; }, "vision_config.in_channels",
       "1"},
      {"a list", [](Json& c) { c["vision_config"] = {1}; }, "vision_config", "object"},
  };
  for (const Nonsense& nonsense : cases) {
    SCOPED_TRACE(nonsense.what);
    Json config = flat();
    nonsense.damage(config);
    EXPECT_THAT(message_of<ModelError>([&] { load(config); }),
                AllOf(HasSubstr("config.json"), HasSubstr(nonsense.key), HasSubstr(nonsense.value)));
  }
}

}  // namespace
}  // namespace tte::models::qwen2_vl
