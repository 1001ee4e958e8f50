// Qwen3.5 without its numbers, which tests/python compares with transformers: its config, and its states.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "expect_error.h"
#include "models/driver.h"
#include "models/qwen3_5/config.h"
#include "temp_dir.h"
#include "tte/error.h"
#include "weights/safetensors_file.h"

namespace tte::models::qwen3_5 {
namespace {

using base::Json;
using ::testing::AllOf;
using testing::Batch;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::hidden_states;
using testing::message_of;
using testing::Sequence;
using testing::TempDir;

TextConfig load(const Json& json) {
  const TempDir folder;
  folder.write("config.json", json.dump());
  return read_text_config(models::read_config_file(folder.path()));
}

TEST(Qwen35Config, DefaultsAreTransformers) {
  const TempDir folder;
  folder.write("config.json", R"({"model_type": "qwen3_5", "vision_config": {"out_hidden_size": 4096}})");
  const Config config = load_config(folder.path());
  EXPECT_EQ(config.text.hidden_size, 4096);
  EXPECT_EQ(config.text.head_dim, 256);
  EXPECT_EQ(config.text.rope_theta, 1e4);
  EXPECT_EQ(config.text.rope_axes.size(), 32U) << "64 of 256 dimensions are rotated";
  EXPECT_THAT(std::vector(config.text.rope_axes.end() - 3, config.text.rope_axes.end()),
              ElementsAre(2, 0, 1));
  EXPECT_TRUE(config.text.gated && config.text.qk_norm);
  EXPECT_EQ(config.text.norm_scale, kernels::NormScale::kOnePlusWeight);
  for (std::int64_t i = 0; i < 32; ++i) EXPECT_EQ(config.text.is_delta(i), i % 4 != 3) << i;
  EXPECT_EQ(config.text.delta.channels(), 2 * 16 * 128 + 32 * 128);
  EXPECT_EQ(config.text.delta.conv_width, 4);
  EXPECT_EQ(config.tokens.image, 248056);
  EXPECT_EQ(config.tokens.video, 248057);
  EXPECT_EQ(config.vision.num_positions, 48 * 48);
  EXPECT_THAT(config.vision.deepstack, ::testing::IsEmpty());
}

TEST(Qwen35Config, SectionsOfLargerHeadsAreCutAsTransformersCutsThem) {
  const TextConfig config = load({{"head_dim", 32}, {"num_hidden_layers", 4}});
  EXPECT_THAT(config.rope_axes, ElementsAre(0, 1, 2, 0));
}

TEST(Qwen35Config, LayersByNameOrByInterval) {
  EXPECT_THAT(load({{"num_hidden_layers", 3}, {"full_attention_interval", 1}}).delta_layers, Each(false));
  EXPECT_THAT(
      load({{"num_hidden_layers", 2}, {"layer_types", {"full_attention", "linear_attention"}}}).delta_layers,
      ElementsAre(false, true));
  EXPECT_THAT(message_of<ModelError>([] {
                (void)load({{"num_hidden_layers", 3}});
              }),
              AllOf(HasSubstr("num_hidden_layers"), HasSubstr("full_attention")));
}

// A text model of a linear layer, one of attention and another linear one.
class Qwen35States : public ::testing::Test {
 protected:
  static constexpr std::int64_t kHidden = 16, kVocab = 40;

  Qwen35States() {
    folder_.write("config.json",
                  R"({"model_type": "qwen3_5_text", "vocab_size": 40, "hidden_size": 16,
                      "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
                      "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": true,
                      "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
                      "linear_value_head_dim": 12,
                      "layer_types": ["linear_attention", "full_attention", "linear_attention"]})");
    add("model.embed_tokens.weight", {kVocab, kHidden});
    add("model.norm.weight", {kHidden});
    for (int i = 0; i < 3; ++i) add_layer(fmt::format("model.layers.{}.", i), i != 1);
    folder_.write("model.safetensors", testing::safetensors(tensors_));
    model_ = testing::open_model(folder_.path(), at::kFloat);
  }

  [[nodiscard]] Sequence sequence(std::int64_t first, std::int64_t tokens) const {
    Prompt prompt;
    for (std::int64_t i = 0; i < tokens; ++i) {
      prompt.ids.push_back((first + 7 * i) % kVocab);
      prompt.positions.push_back({i, i, i});
    }
    prompt.kinds.assign(static_cast<std::size_t>(tokens), base::Modality::kText);
    prompt.next_position = tokens;
    return {model_, prompt};
  }

  std::shared_ptr<const Model> model_;

 private:
  void add(const std::string& name, at::IntArrayRef shape) {
    tensors_.emplace_back(name, at::randn(shape, generator_, at::kFloat) * 0.3);
  }
  void add_layer(const std::string& prefix, bool linear) {
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      add(prefix + norm + ".weight", {kHidden});
    add(prefix + "mlp.gate_proj.weight", {24, kHidden});
    add(prefix + "mlp.up_proj.weight", {24, kHidden});
    add(prefix + "mlp.down_proj.weight", {kHidden, 24});
    if (linear) {
      const std::string mixer = prefix + "linear_attn.";
      add(mixer + "in_proj_qkv.weight", {40, kHidden});
      add(mixer + "in_proj_z.weight", {24, kHidden});
      add(mixer + "in_proj_b.weight", {2, kHidden});
      add(mixer + "in_proj_a.weight", {2, kHidden});
      add(mixer + "conv1d.weight", {40, 1, 4});
      add(mixer + "A_log", {2});
      add(mixer + "dt_bias", {2});
      add(mixer + "norm.weight", {12});
      add(mixer + "out_proj.weight", {kHidden, 24});
    } else {
      const std::string mixer = prefix + "self_attn.";
      add(mixer + "q_proj.weight", {64, kHidden});
      add(mixer + "k_proj.weight", {16, kHidden});
      add(mixer + "v_proj.weight", {16, kHidden});
      add(mixer + "o_proj.weight", {kHidden, 32});
      add(mixer + "q_norm.weight", {16});
      add(mixer + "k_norm.weight", {16});
    }
  }

  TempDir folder_;
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(3);
  testing::NamedTensors tensors_;
};

TEST_F(Qwen35States, StepsOfAnySizeGiveTheSameBits) {
  Sequence whole = sequence(1, 90);
  const at::Tensor expected = hidden_states(*model_, whole, {90});
  for (const auto& steps : {std::vector<std::int64_t>{1}, {2, 5, 64}, {63, 1}}) {
    Sequence cut = sequence(1, 90);
    EXPECT_TRUE(hidden_states(*model_, cut, steps).equal(expected)) << steps.front();
  }
}

TEST_F(Qwen35States, NeighboursInABatchDoNotMatter) {
  Sequence alone = sequence(1, 30);
  const at::Tensor expected = hidden_states(*model_, alone, {30});
  Sequence first = sequence(5, 11), second = sequence(1, 30);
  Batch begin, rest;
  begin.add(first, 4);
  begin.add(second, 20);
  const at::Tensor head = begin.forward(*model_).narrow(0, 4, 20);
  rest.add(second, 10);
  rest.add(first, 7);
  EXPECT_TRUE(at::cat({head, rest.forward(*model_).narrow(0, 0, 10)}).equal(expected));
}

TEST_F(Qwen35States, AForkGoesOnByItself) {
  Sequence whole = sequence(1, 20);
  const at::Tensor expected = hidden_states(*model_, whole, {20});
  Sequence begun = sequence(1, 20);
  Batch batch;
  batch.add(begun, 8);
  (void)batch.forward(*model_);
  EXPECT_FALSE(begun.state().cuttable());
  EXPECT_EQ(begun.state().fork(7), nullptr);
  Sequence fork(begun, begun.state().fork(8));
  EXPECT_TRUE(hidden_states(*model_, begun, {12}).equal(expected.narrow(0, 8, 12)));
  EXPECT_TRUE(hidden_states(*model_, fork, {3, 9}).equal(expected.narrow(0, 8, 12)));
}

TEST_F(Qwen35States, OnlyWantedRowsLeaveARecurrentLastLayer) {
  Sequence whole = sequence(1, 20), picked = sequence(1, 20);
  const at::Tensor expected = hidden_states(*model_, whole, {20});
  Batch batch;
  batch.add(picked, 20);
  EXPECT_TRUE(batch.forward(*model_, /*every_row=*/false, {3, 19})
                  .equal(expected.index_select(0, at::tensor({3, 19}, at::kLong))));
}

TEST_F(Qwen35States, CostTheSameForOneTokenAsForManyButForTheirKeys) {
  const std::int64_t one = model_->state_bytes(1),
                     block = model_->state_bytes(200) - model_->state_bytes(100);
  EXPECT_GT(one, 2 * 2 * 8 * 12 * 4) << "a float32 matrix for each head of both linear layers";
  EXPECT_GT(block, 0);
  EXPECT_EQ(model_->start(1)->bytes(), one);
}

}  // namespace
}  // namespace tte::models::qwen3_5
