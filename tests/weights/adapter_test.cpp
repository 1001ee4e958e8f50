// Adapters of small tensors; tests/python/test_adapters.py compares whole models with PEFT.
#include "weights/adapter.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checkpoint.h"
#include "base/json.h"
#include "expect_error.h"
#include "safetensors_file.h"
#include "temp_dir.h"
#include "tte/error.h"
#include "weights/state_dict.h"
#include "weights/weight_store.h"

namespace tte::weights {
namespace {

using base::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::NamedTensors;
using ::testing::Not;
using testing::numbered;
using testing::safetensors;
using testing::TempDir;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed.weight";

at::Tensor random(at::IntArrayRef shape, std::int64_t seed) {
  at::manual_seed(static_cast<std::uint64_t>(seed));
  return at::randn(shape);
}

class AdapterTest : public ::testing::Test {
 protected:
  AdapterTest() { folder_.write("base/config.json", "{}"); }

  void write_base(const NamedTensors& tensors) {
    folder_.write("base/model.safetensors", safetensors(tensors));
  }
  void write_adapter(Json config, const NamedTensors& tensors, const std::string& name = "adapter") {
    if (!config.contains("peft_type")) config["peft_type"] = "LORA";
    folder_.write(name + "/adapter_config.json", config.dump());
    folder_.write(name + "/adapter_model.safetensors", safetensors(tensors));
  }
  [[nodiscard]] StateDict open(const Placement& placement = {}, const Naming& naming = {},
                               const std::string& name = "adapter") const {
    return StateDict::open(base::Checkpoint(folder_.path() / name, folder_.path() / "base"), placement,
                           naming);
  }
  [[nodiscard]] std::string error() const {
    return message_of<ModelError>([&] { static_cast<void>(open()); });
  }
  TempDir folder_;
  const at::Tensor weight_ = random({3, 4}, 1), a_ = random({2, 4}, 2), b_ = random({3, 2}, 3);
};

TEST_F(AdapterTest, AddsTheScaledProduct) {
  write_base({{"q.weight", weight_}, {"k.weight", weight_}});
  for (const std::string prefix : {"base_model.model.", ""}) {
    for (const std::string name : {"", ".default"}) {
      write_adapter({{"r", 2}, {"lora_alpha", 3}}, {{prefix + "q.lora_A" + name + ".weight", a_},
                                                    {prefix + "q.lora_B" + name + ".weight", b_}});
      const StateDict dict = open();
      EXPECT_TRUE(at::allclose(dict.get("q.weight", {3, 4}), weight_ + 1.5 * at::matmul(b_, a_), 0, 1e-6));
      EXPECT_TRUE(dict.get("k.weight", {3, 4}).equal(weight_));
    }
  }
  write_adapter({{"r", 2}, {"lora_alpha", 3}, {"use_rslora", true}, {"fan_in_fan_out", true}},
                {{"q.lora_A.weight", a_}, {"q.lora_B.weight", b_}});
  EXPECT_TRUE(
      at::allclose(open().get("q.weight", {3, 4}), weight_ + 3 / std::sqrt(2) * at::matmul(b_, a_), 0, 1e-6));
}

TEST_F(AdapterTest, StacksMergedTensorsAndThoseBesideThem) {
  write_base({{"q", numbered({1, 4})}, {"a.weight", weight_}, {"b.weight", weight_}});
  write_adapter({{"r", 2}, {"lora_alpha", 2}}, {{"b.lora_A.weight", a_}, {"b.lora_B.weight", b_}});
  const at::Tensor wanted = at::cat({weight_, weight_ + at::matmul(b_, a_)});
  EXPECT_TRUE(at::allclose(open().stacked({"a.weight", "b.weight"}, {{3, 4}, {3, 4}}), wanted, 0, 1e-6));
  const at::Tensor half = open({.dtype = at::kBFloat16}).stacked({"a.weight", "b.weight"}, {{3, 4}, {3, 4}});
  EXPECT_TRUE(half.equal(wanted.to(at::kBFloat16)));
}

TEST_F(AdapterTest, PatternsGiveAModuleItsRankAndAlpha) {
  write_base(
      {{"layers.0.q.weight", weight_}, {"layers.1.q.weight", weight_}, {"layers.1.k.weight", weight_}});
  const auto adapter = [&](const Json& ranks, const Json& alphas) {
    NamedTensors tensors;
    for (const std::string name : {"layers.0.q", "layers.1.q", "layers.1.k"}) {
      const bool wide = name == "layers.1.q";
      tensors.emplace_back(name + ".lora_A.weight", wide ? at::cat({a_, a_}) : a_);
      tensors.emplace_back(name + ".lora_B.weight", wide ? at::cat({b_, b_}, 1) : b_);
    }
    write_adapter({{"r", 2}, {"lora_alpha", 2}, {"rank_pattern", ranks}, {"alpha_pattern", alphas}}, tensors);
  };
  const auto scale = [&](const char* name) {
    const at::Tensor added = open().get(name, {3, 4}) - weight_;
    return std::round((added / at::matmul(b_, a_)).median().item<double>() * 1e4) / 1e4;
  };
  for (const char* rank : {"1.q", "layers.1.q", R"(layers\.[1-9]\.q)", "(1|2).q", "^layers.1.q"}) {
    adapter({{rank, 4}}, {{"k", 6}, {"layers.1.k", 100}, {"q", 8.0}, {"ayers.1.q", 7}});
    EXPECT_EQ(scale("layers.0.q.weight"), 4) << rank;  // 8 / 2
    EXPECT_EQ(scale("layers.1.q.weight"), 4) << rank;  // 8 / 4, twice the same rows
    EXPECT_EQ(scale("layers.1.k.weight"), 3) << rank;  // The first pattern counts.
  }
  adapter({{"layers.0.q", 4}}, Json::object());
  EXPECT_THAT(error(), AllOf(HasSubstr("layers.0.q.lora_A.weight"), HasSubstr("rank 4")));
}

TEST_F(AdapterTest, DoraSetsTheNormOfEachRow) {
  write_base({{"q.weight", weight_}});
  const at::Tensor magnitude = random({3}, 4).abs() + 1;
  for (const char* suffix : {"", ".weight", ".default", ".default.weight"}) {
    write_adapter({{"r", 2}, {"lora_alpha", 3}, {"use_dora", true}},
                  {{"q.lora_A.weight", a_},
                   {"q.lora_B.weight", b_},
                   {std::string("q.lora_magnitude_vector") + suffix, magnitude}});
    const at::Tensor merged = open().get("q.weight", {3, 4});
    EXPECT_TRUE(at::allclose(merged.norm(2, 1), magnitude, 1e-6)) << suffix;
    const at::Tensor sum = weight_ + 1.5 * at::matmul(b_, a_);
    EXPECT_TRUE(at::allclose(merged, magnitude.view({3, 1}) * sum / sum.norm(2, 1, true), 0, 1e-6)) << suffix;
  }
}

TEST_F(AdapterTest, EmbeddingsAreTransposed) {
  write_base({{"embed.weight", weight_}});
  const at::Tensor a = random({2, 3}, 2), b = random({4, 2}, 3), magnitude = random({4}, 4);
  write_adapter({{"r", 2}, {"lora_alpha", 2}},
                {{"embed.lora_embedding_A", a}, {"embed.lora_embedding_B", b}});
  const at::Tensor sum = weight_ + at::matmul(b, a).t();
  EXPECT_TRUE(at::allclose(open().get("embed.weight", {3, 4}), sum, 0, 1e-6));
  write_adapter({{"r", 2}, {"lora_alpha", 2}, {"use_dora", true}},
                {{"embed.lora_embedding_A", a},
                 {"embed.lora_embedding_B", b},
                 {"embed.lora_magnitude_vector", magnitude}});
  EXPECT_TRUE(
      at::allclose(open().get("embed.weight", {3, 4}), magnitude * sum / sum.norm(2, 0, true), 0, 1e-6));
}

TEST_F(AdapterTest, ConvolutionsAreProductsOfTheirRows) {
  const at::Tensor weight = random({3, 2, 1, 2, 1}, 1), a = random({2, 2, 1, 2, 1}, 2),
                   b = random({3, 2, 1, 1, 1}, 3);
  write_base({{"conv.weight", weight}});
  write_adapter({{"r", 2}, {"lora_alpha", 2}}, {{"conv.lora_A.weight", a}, {"conv.lora_B.weight", b}});
  const at::Tensor wanted = weight + at::matmul(b.view({3, 2}), a.view({2, 4})).view(weight.sizes());
  EXPECT_TRUE(at::allclose(open().get("conv.weight", weight.sizes()), wanted, 0, 1e-6));
}

TEST_F(AdapterTest, BiasesAndWholeModulesAreApplied) {
  const at::Tensor bias = numbered({3}, 1), norm = numbered({4}, 2), more = numbered({3}, 5);
  write_base({{"q.weight", weight_}, {"q.bias", bias}, {"norm.weight", norm}, {"k.bias", bias}});
  write_adapter({{"r", 2}, {"lora_alpha", 4}, {"lora_bias", true}, {"modules_to_save", {"norm"}}},
                {{"q.lora_A.weight", a_},
                 {"q.lora_B.weight", b_},
                 {"q.lora_B.bias", more},
                 {"base_model.model.norm.weight", norm + 1},
                 {"base_model.model.k.base_layer.bias", more}});
  const StateDict dict = open({.dtype = at::kFloat});
  EXPECT_TRUE(dict.get("q.bias", {3}).equal(bias + 2 * more));
  EXPECT_TRUE(dict.get("norm.weight", {4}).equal(norm + 1));
  EXPECT_TRUE(dict.get("k.bias", {3}).equal(more));
  static_cast<void>(dict.get("q.weight", {3, 4}));
  dict.check_all_used();
}

TEST_F(AdapterTest, NamesAreTheFamilysOnBothSides) {
  write_base({{"old.q.weight", weight_}});
  write_adapter({{"r", 2}, {"lora_alpha", 2}},
                {{"base_model.model.new.q.lora_A.weight", a_}, {"base_model.model.new.q.lora_B.weight", b_}});
  const auto rule = [](std::string_view name) -> std::optional<std::string> {
    if (name.starts_with("old.") || name.starts_with("new.")) return std::string(name.substr(4));
    return std::nullopt;
  };
  EXPECT_TRUE(
      at::allclose(open({}, {rule, {}}).get("q.weight", {3, 4}), weight_ + at::matmul(b_, a_), 0, 1e-6));
}

// As in PEFT's forward pass, which adds a product to one module; a module that was saved whole is a copy of its own.
TEST_F(AdapterTest, WhatIsTiedIsUntiedByAProductOrASavedModule) {
  const Naming naming = {{}, std::pair<std::string, std::string>(kEmbedding, kHead)};
  const at::Tensor sum = weight_ + at::matmul(b_, a_), own = weight_ + 7;
  const NamedTensors product = {{"lm_head.lora_A.weight", a_}, {"lm_head.lora_B.weight", b_}};
  for (const NamedTensors& base : {NamedTensors{{kEmbedding, weight_}}, NamedTensors{{kHead, weight_}},
                                   NamedTensors{{kEmbedding, weight_}, {kHead, weight_}}}) {
    write_base(base);
    write_adapter({{"r", 2}, {"lora_alpha", 2}}, product);
    const StateDict adapted = open({}, naming);
    EXPECT_TRUE(at::allclose(adapted.get(kHead, {3, 4}), sum, 0, 1e-6)) << base[0].first;
    EXPECT_TRUE(adapted.get(kEmbedding, {3, 4}).equal(weight_)) << base[0].first;
    for (const std::string saved : {kEmbedding, kHead}) {
      const Json config = {{"modules_to_save", {saved.substr(0, saved.rfind('.'))}}};
      write_adapter(config, {{"base_model.model." + saved, own}});
      const StateDict dict = open({}, naming);
      EXPECT_TRUE(dict.get(saved, {3, 4}).equal(own));
      EXPECT_TRUE(dict.get(saved == kHead ? kEmbedding : kHead, {3, 4}).equal(weight_));
    }
    write_adapter(Json::object(), {{"base_model.model." + std::string(base[0].first), own}});
    for (const auto& [name, tensor] : base)
      EXPECT_TRUE(open({}, naming).get(name, {3, 4}).equal(own)) << name;
  }
  write_base({{kEmbedding, weight_}, {kHead, own}});
  write_adapter({{"r", 2}, {"lora_alpha", 2}}, product);
  EXPECT_TRUE(open({}, naming).get(kEmbedding, {3, 4}).equal(weight_));
}

TEST_F(AdapterTest, ModelsOfOneBaseShareWhatIsUnchanged) {
  write_base({{"q.weight", weight_}, {"k.weight", weight_ + 1}, {"visual.x", numbered({5})}});
  const auto adapter = [&](const char* name, double scale) {
    write_adapter({{"r", 2}, {"lora_alpha", 2}}, {{"q.lora_A.weight", a_}, {"q.lora_B.weight", b_ * scale}},
                  name);
  };
  adapter("one", 1);
  adapter("two", 2);
  adapter("copy", 1);
  const auto store = std::make_shared<WeightStore>();
  struct Taken {
    StateDict dict;
    at::Tensor q, k, x;
  };
  const auto take = [](const StateDict& dict) {
    return Taken{dict, dict.get("q.weight", {3, 4}), dict.get("k.weight", {3, 4}), dict.get("visual.x", {5})};
  };
  const Placement placement{.dtype = at::kFloat, .store = store};
  const Taken plain = take(StateDict::open(folder_.path() / "base", placement));
  const Taken one = take(open(placement, {}, "one")), two = take(open(placement, {}, "two")),
              copy = take(open(placement, {}, "copy")), again = take(open(placement, {}, "one"));
  const Taken after = take(StateDict::open(folder_.path() / "base", placement));
  EXPECT_TRUE(plain.q.equal(weight_) && after.q.equal(weight_));
  EXPECT_FALSE(one.q.equal(weight_) || one.q.equal(two.q));
  EXPECT_EQ(one.q.const_data_ptr(), again.q.const_data_ptr());
  for (const Taken* taken : {&one, &two, &copy}) {
    EXPECT_EQ(taken->k.const_data_ptr(), plain.k.const_data_ptr());
    EXPECT_EQ(taken->dict.select("visual.").identity(), plain.dict.select("visual.").identity());
    EXPECT_EQ(taken->dict.select("visual.").fingerprint(), plain.dict.select("visual.").fingerprint());
    EXPECT_NE(taken->dict.identity(), plain.dict.identity());
    EXPECT_NE(taken->dict.fingerprint(), plain.dict.fingerprint());
  }
  EXPECT_NE(one.dict.identity(), two.dict.identity());
  EXPECT_NE(one.dict.fingerprint(), two.dict.fingerprint());
  EXPECT_EQ(one.dict.fingerprint(), copy.dict.fingerprint());
  EXPECT_EQ(one.dict.identity(), copy.dict.identity());
}

TEST_F(AdapterTest, AScaleAloneMakesAnotherModel) {
  write_base({{"q.weight", weight_}});
  const NamedTensors tensors = {{"q.lora_A.weight", a_}, {"q.lora_B.weight", b_}};
  write_adapter({{"r", 2}, {"lora_alpha", 2}}, tensors, "one");
  write_adapter({{"r", 2}, {"lora_alpha", 3}}, tensors, "two");
  EXPECT_NE(open({}, {}, "one").fingerprint(), open({}, {}, "two").fingerprint());
}

TEST_F(AdapterTest, TensorsThatDoNotFitAreNamedWithTheirFile) {
  write_base(
      {{"q.weight", weight_}, {"q.bias", numbered({3})}, {"ids", at::arange(12, at::kLong).view({3, 4})}});
  const std::pair<std::string, at::Tensor> a{"q.lora_A.weight", a_}, b{"q.lora_B.weight", b_};
  const std::vector<std::pair<NamedTensors, std::string>> cases = {
      {{a}, "q.lora_A.weight\", but not the lora_B"},
      {{b}, "q.lora_B.weight\", but not the lora_A"},
      {{a, b, {"q.lora_magnitude_vector", numbered({3})}}, "use_dora"},
      {{a, {"q.lora_B.weight", at::zeros({4, 2})}}, "\"q.lora_B.weight\" of shape [4, 2], which do not fit"},
      {{a, {"q.lora_B.weight", at::zeros({3})}}, "of shape [3], which do not fit"},
      {{b, {"q.lora_A.weight", at::zeros({2, 5})}}, "of shape [2, 5]"},
      {{b, {"q.lora_A.weight", at::zeros({1, 4})}}, "gives that module the rank 2"},
      {{b, {"q.lora_A.weight", at::zeros({})}}, "of shape []"},
      {{a, {"q.lora_B.weight", at::zeros({3, 2}, at::kLong)}}, "as I64"},
      {{a, b, {"q.lora_A.default.weight", a_}}, "the same part of one module"},
      {{a, b, {"q.lora_B.bias", numbered({2})}}, "of shape [2], which does not fit tensor \"q.bias\""},
      {{{"z.lora_A.weight", a_}, {"z.lora_B.weight", b_}}, "\"z.lora_A.weight\" for \"z.weight\""},
      {{{"ids.lora_A.weight", a_}, {"ids.lora_B.weight", b_}}, "\"ids.lora_A.weight\" for \"ids.weight\""},
      {{{"q.lora_A.other.weight", a_}}, "no part of a LoRA or DoRA adapter"},
      {{{"q.lora_embedding_A", at::zeros({2, 3})}}, "but not the lora_embedding_B"},
      {{{"norm.weight", a_}, {"base_model.model.norm.weight", a_}}, "both known as \"norm.weight\""},
      {{}, "holds no tensors"},
  };
  for (const auto& [tensors, words] : cases) {
    write_adapter({{"r", 2}, {"lora_alpha", 2}}, tensors);
    EXPECT_THAT(error(), AllOf(HasSubstr(words), HasSubstr("adapter_model.safetensors"))) << words;
    EXPECT_LT(error().size(), 500U);
  }
  write_adapter({{"r", 2}, {"use_dora", true}}, {a, b});
  EXPECT_THAT(error(), HasSubstr("but not the lora_magnitude_vector"));
  write_adapter({{"r", 2}, {"use_dora", true}}, {a, b, {"q.lora_magnitude_vector", numbered({4})}});
  EXPECT_THAT(error(), AllOf(HasSubstr("lora_magnitude_vector"), HasSubstr("needs 3 values")));
}

TEST_F(AdapterTest, WhatHasFewerLayersIsOfAnotherModel) {
  write_base({{"layers.0.q.weight", weight_},
              {"layers.1.q.weight", weight_},
              {"layers.2.q.weight", weight_},
              {"layers.2.k.weight", weight_},
              {"mlp.0.weight", weight_},
              {"mlp.2.weight", weight_}});
  const auto told = [&](Json config) {
    config.update({{"r", 2}, {"lora_alpha", 2}});
    write_adapter(std::move(config), {{"layers.0.q.lora_A.weight", a_},
                                      {"layers.0.q.lora_B.weight", b_},
                                      {"layers.1.q.lora_A.weight", a_},
                                      {"layers.1.q.lora_B.weight", b_},
                                      {"mlp.0.lora_A.weight", a_},
                                      {"mlp.0.lora_B.weight", b_}});
    try {
      static_cast<void>(open());
    } catch (const ModelError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(told({{"target_modules", {"q", "0"}}}),
              AllOf(HasSubstr("changes 2 of the 3 tensors \"layers.*.q.weight\""),
                    HasSubstr("(not \"layers.2.q.weight\")"), HasSubstr("adapter_model.safetensors")));
  for (const Json& some : {Json::object(), Json{{"target_modules", "layers.[01].q"}},
                           Json{{"target_modules", {"layers.0.q", "layers.1.q", "0"}}},
                           Json{{"target_modules", {"q", "0"}}, {"layers_to_transform", {0, 1}}},
                           Json{{"target_modules", {"q", "0"}}, {"exclude_modules", "layers.2.q"}}}) {
    EXPECT_EQ(told(some), "") << some;
  }
}

TEST_F(AdapterTest, AWholeTensorThatNoLayerReadsIsNamedWithItsFile) {
  write_base({{"q.weight", weight_}});
  write_adapter(Json::object(), {{"base_model.model.score.weight", a_}, {"q.weight", weight_}});
  const StateDict dict = open();
  static_cast<void>(dict.get("q.weight", {3, 4}));
  EXPECT_THAT(message_of<ModelError>([&] { dict.check_all_used(); }),
              AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("\"score.weight\"")));
}

TEST_F(AdapterTest, ConfigsThatMakeNoSenseAreOneSentence) {
  write_base({{"q.weight", weight_}});
  const auto pattern = [](const std::string& text) {
    return Json{{"peft_type", "LORA"}, {"alpha_pattern", {{text, 2}}}}.dump();
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"r": 2})", "\"peft_type\" is missing"},
      {R"({"peft_type": "IA3"})", "\"IA3\""},
      {R"({"peft_type": 7})", "\"peft_type\" is 7"},
      {R"({"peft_type": "LORA", "r": 0})", "\"r\" is 0"},
      {R"({"peft_type": "LORA", "r": -2})", "\"r\" is -2"},
      {R"({"peft_type": "LORA", "r": 1e300})", "\"r\""},
      {R"({"peft_type": "LORA", "r": 2.5})", "\"r\" is 2.5"},
      {R"({"peft_type": "LORA", "r": "2"})", "\"r\""},
      {R"({"peft_type": "LORA", "r": 99999999999999999999})", "\"r\""},
      {R"({"peft_type": "LORA", "lora_alpha": NaN})", "adapter_config.json"},
      {R"({"peft_type": "LORA", "lora_alpha": 1e999})", "adapter_config.json"},
      {R"({"peft_type": "LORA", "lora_alpha": "2"})", "\"lora_alpha\""},
      {R"({"peft_type": "LORA", "lora_alpha": [2]})", "\"lora_alpha\""},
      {R"({"peft_type": "LORA", "use_dora": "yes"})", "\"use_dora\""},
      {R"({"peft_type": "LORA", "use_rslora": 1})", "\"use_rslora\""},
      {R"({"peft_type": "LORA", "modules_to_save": "norm"})", "\"modules_to_save\""},
      {R"({"peft_type": "LORA", "rank_pattern": [2]})", "\"rank_pattern\""},
      {R"({"peft_type": "LORA", "rank_pattern": {"q": 0}})", "rank_pattern.q\" is 0"},
      {R"({"peft_type": "LORA", "rank_pattern": {"q": null}})", "rank_pattern.q\""},
      {R"({"peft_type": "LORA", "alpha_pattern": {"q": null}})", "alpha_pattern.q\""},
      {R"({"peft_type": "LORA", "alpha_pattern": {"q": true}})", "alpha_pattern.q\""},
      {pattern("("), "no regular expression"},
      {pattern(")"), "no regular expression"},
      {pattern(std::string(600, '(')), "no regular expression"},
      {pattern(std::string(5000, 'q')), "no regular expression"},
      {R"({"peft_type": "LORA", "init_lora_weights": "pissa_niter_16"})", "\"init_lora_weights\""},
      {R"({"peft_type": "LORA", "use_qalora": true})", "\"use_qalora\""},
      {R"({"peft_type": "LORA", "layer_replication": [[0, 2]]})", "\"layer_replication\""},
      {R"({"peft_type": "LORA", "trainable_token_indices": [1]})", "\"trainable_token_indices\""},
      {R"([1])", "adapter_config.json"},
      {R"({)", "adapter_config.json"},
      {"", "adapter_config.json"},
  };
  for (const auto& [config, words] : cases) {
    write_adapter(Json::object(), {{"q.lora_A.weight", a_}, {"q.lora_B.weight", b_}});
    folder_.write("adapter/adapter_config.json", config);
    EXPECT_THAT(error(), AllOf(HasSubstr(words), HasSubstr("adapter_config.json"), Not(HasSubstr("\n"))))
        << config;
    EXPECT_LT(error().size(), 500U) << config;
  }
}

TEST_F(AdapterTest, APatternThatNeverEndsIsAnError) {
  const std::string name(60, 'a');
  write_base({{name + "!.weight", weight_}});
  write_adapter({{"r", 2}, {"lora_alpha", 2}, {"alpha_pattern", {{"(a+)+b", 2}}}},
                {{name + "!.lora_A.weight", a_}, {name + "!.lora_B.weight", b_}});
  EXPECT_THAT(error(), AllOf(HasSubstr("alpha_pattern"), HasSubstr("takes too long")));
}

TEST_F(AdapterTest, FilesThatAreMissingAreNamed) {
  write_base({{"q.weight", weight_}});
  folder_.write("adapter/adapter_config.json", R"({"peft_type": "LORA"})");
  EXPECT_THAT(error(), HasSubstr("has no adapter_model.safetensors: fetch it"));
  folder_.write("adapter/adapter_model.bin", "x");
  EXPECT_THAT(error(), HasSubstr("pickled"));
  folder_.write("adapter/adapter_model.safetensors", "x");
  EXPECT_THAT(error(), HasSubstr("adapter_model.safetensors"));
}

TEST_F(AdapterTest, TheBaseIsFoundByItsName) {
  write_base({{"q.weight", weight_}});
  const auto base_of = [&](const std::string& name) {
    write_adapter({{"base_model_name_or_path", name}}, {{"q.weight", weight_}});
    return base_of_adapter(folder_.path() / "adapter");
  };
  const auto is_base = [&](const std::filesystem::path& path) {
    return !path.empty() && std::filesystem::equivalent(path, folder_.path() / "base");
  };
  for (const std::string name : {"base", "../base", "./base"})
    EXPECT_TRUE(is_base(base_of(name).folder)) << name;
  EXPECT_TRUE(is_base(base_of((folder_.path() / "base").string()).folder));
  for (const std::string name : {"owner/name", "", "nowhere", ".", "..", "adapter"}) {
    const AdapterBase base = base_of(name);
    EXPECT_TRUE(base.folder.empty()) << name;
    EXPECT_EQ(base.name, name);
  }
  EXPECT_TRUE(is_adapter(folder_.path() / "adapter"));
  EXPECT_FALSE(is_adapter(folder_.path() / "base"));
  // As in transformers: what has tensors of its own is its own base. Without an adapter's it is a merged checkpoint.
  folder_.write("adapter/model.safetensors", safetensors({{"q.weight", weight_}}));
  EXPECT_EQ(base_of_adapter(folder_.path() / "adapter").folder, folder_.path() / "adapter");
  std::filesystem::remove(folder_.path() / "adapter/adapter_model.safetensors");
  EXPECT_FALSE(is_adapter(folder_.path() / "adapter"));
}

}  // namespace
}  // namespace tte::weights
