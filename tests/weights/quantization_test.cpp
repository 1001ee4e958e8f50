// Weights of few bits, made by hand; tests/python/test_quantized.py compares whole models with what writes them.
#include "weights/quantization.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "expect_error.h"
#include "safetensors_file.h"
#include "temp_dir.h"
#include "tte/error.h"
#include "weights/state_dict.h"

namespace tte::weights {
namespace {

using base::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::NamedTensors;
using testing::safetensors;
using testing::TempDir;

const Json kFourBits = Json::parse(
    R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4}}}})");
const Json kFp8 = Json::parse(R"({"quant_method": "fp8", "weight_block_size": [2, 2]})");

// Dense, low bits first, as unsigned codes.
at::Tensor packed(const std::vector<std::vector<int>>& rows, int bits) {
  const auto words = static_cast<std::int64_t>((rows[0].size() * static_cast<std::size_t>(bits) + 31) / 32);
  at::Tensor all = at::zeros({static_cast<std::int64_t>(rows.size()), words}, at::kInt);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto* row = reinterpret_cast<std::uint32_t*>(all.data_ptr<int>()) + static_cast<std::int64_t>(i) * words;
    for (std::size_t j = 0; j < rows[i].size(); ++j) {
      for (int bit = 0; bit < bits; ++bit) {
        const std::size_t at = j * static_cast<std::size_t>(bits) + static_cast<std::size_t>(bit);
        row[at / 32] |= (static_cast<std::uint32_t>(rows[i][j]) >> bit & 1U) << (at % 32);
      }
    }
  }
  return all;
}

at::Tensor longs(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

class QuantizationTest : public ::testing::Test {
 protected:
  void write(const Json& quantization, const NamedTensors& tensors) {
    folder_.write("config.json", Json{{"quantization_config", quantization}}.dump());
    folder_.write("model.safetensors", safetensors(tensors));
  }
  [[nodiscard]] StateDict open(const Placement& placement = {}) const {
    return StateDict::open(folder_.path(), placement);
  }
  [[nodiscard]] std::string error() const {
    return message_of<ModelError>([&] { static_cast<void>(open()); });
  }
  TempDir folder_;
};

TEST_F(QuantizationTest, FourBitsAndAScaleForEachRow) {
  write(kFourBits, {{"q.weight_packed", packed({{0, 8, 15}, {7, 9, 1}}, 4)},
                    {"q.weight_scale", at::tensor({0.5F, 2.0F}).unsqueeze(1)},
                    {"q.weight_shape", longs({2, 3})}});
  const StateDict dict = open();
  EXPECT_EQ(dict.shape("q.weight"), (std::vector<std::int64_t>{2, 3}));
  EXPECT_TRUE(
      dict.get("q.weight", {2, 3}).equal(at::tensor({-4.0F, 0.0F, 3.5F, -2.0F, 2.0F, -14.0F}).view({2, 3})));
  dict.check_all_used();
}

TEST_F(QuantizationTest, CodesThatCrossWords) {
  for (int bits = 1; bits <= 8; ++bits) {
    Json config = kFourBits;
    config["config_groups"]["g"]["weights"]["num_bits"] = bits;
    std::vector<std::vector<int>> rows(3, std::vector<int>(37));
    at::Tensor expected = at::empty({3, 37});
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 37; ++j) {
        const int code = (i * 37 + j * 5 + 3) % (1 << bits);
        rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] = code;
        expected[i][j] = code - (1 << (bits - 1));
      }
    }
    write(config, {{"q.weight_packed", packed(rows, bits)},
                   {"q.weight_scale", at::ones({1})},
                   {"q.weight_shape", longs({3, 37})}});
    EXPECT_TRUE(open().get("q.weight", {3, 37}).equal(expected)) << bits << " bits";
  }
}

TEST_F(QuantizationTest, GroupsInAnotherOrderOfColumns) {
  const at::Tensor scale = at::tensor({1.0F, 10.0F}).view({1, 2});
  const auto read = [&](const std::vector<int>& order) {
    write(kFourBits, {{"q.weight_packed", packed({{9, 9, 9, 9}}, 4)},
                      {"q.weight_scale", scale},
                      {"q.weight_shape", longs({1, 4})},
                      {"q.weight_g_idx", at::tensor(order, at::kInt)}});
    return open().get("q.weight", {1, 4});
  };
  EXPECT_TRUE(read({1, 0, 0, 1}).equal(at::tensor({10.0F, 1.0F, 1.0F, 10.0F}).view({1, 4})));
  EXPECT_TRUE(read({-1, -1, -1, -1}).equal(at::tensor({1.0F, 1.0F, 10.0F, 10.0F}).view({1, 4})));
  EXPECT_THAT(message_of<ModelError>([&] {
                static_cast<void>(read({0, 0, 2, 1}));
              }),
              HasSubstr("outside of 0 to 1"));
}

TEST_F(QuantizationTest, TheProductIsRoundedToTheTypeOfTheScale) {
  write(kFourBits, {{"q.weight_packed", packed({{11, 12}}, 4)},
                    {"q.weight_scale", at::tensor({0.1F}).to(at::kBFloat16).view({1, 1})},
                    {"q.weight_shape", longs({1, 2})}});
  const StateDict dict = open();
  EXPECT_EQ(dict.stored_dtype("q.weight"), at::kBFloat16);
  const at::Tensor scale = at::tensor({0.1F}).to(at::kBFloat16);
  EXPECT_TRUE(dict.get("q.weight", {1, 2}).equal(at::cat({scale * 3, scale * 4}).view({1, 2})));
}

TEST_F(QuantizationTest, BlocksOfFp8ThatDoNotDivideTheWeight) {
  const at::Tensor values =
      at::tensor({1.0F, 2.0F, -448.0F, 0.5F, 0.25F, 3.0F, 4.0F, 5.0F, 6.0F}).view({3, 3});
  const at::Tensor scale = at::tensor({1.0F, 10.0F, 100.0F, 1000.0F}).view({2, 2});
  write(kFp8, {{"q.weight", values.to(at::kFloat8_e4m3fn)}, {"q.weight_scale_inv", scale}});
  const at::Tensor spread =
      scale.repeat_interleave(2, 0).repeat_interleave(2, 1).slice(0, 0, 3).slice(1, 0, 3);
  EXPECT_TRUE(open().get("q.weight", {3, 3}).equal(values * spread));
}

TEST_F(QuantizationTest, FingerprintsTellScalesAndRulesApart) {
  const auto fingerprint = [&](float scale, int bits) {
    Json config = kFourBits;
    config["config_groups"]["g"]["weights"]["num_bits"] = bits;
    write(config, {{"q.weight_packed", packed({{1, 2, 3, 4}}, 4)},
                   {"q.weight_scale", at::full({1, 1}, scale)},
                   {"q.weight_shape", longs({1, bits == 4 ? 4 : 3})}});
    return open().fingerprint();
  };
  EXPECT_EQ(fingerprint(1, 4), fingerprint(1, 4));
  EXPECT_NE(fingerprint(1, 4), fingerprint(2, 4));
  EXPECT_NE(fingerprint(1, 4), fingerprint(1, 5));
}

TEST_F(QuantizationTest, PartsThatDoNotFitTogetherAreRefused) {
  const at::Tensor codes = packed({{1, 2, 3, 4}, {5, 6, 7, 8}}, 4);
  const at::Tensor scale = at::ones({2, 1});
  const std::vector<std::pair<NamedTensors, std::string>> cases = {
      {{{"q.weight_packed", codes}, {"q.weight_shape", longs({2, 4})}}, "no tensor \"q.weight_scale\""},
      {{{"q.weight_packed", codes}, {"q.weight_scale", scale}}, "no tensor \"q.weight_shape\""},
      {{{"q.weight_packed", codes}, {"q.weight_scale", scale}, {"q.weight_shape", longs({2, 4, 1})}},
       "two sizes"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", scale}, {"q.weight_shape", longs({3, 4})}},
       "but its weight"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", scale}, {"q.weight_shape", longs({2, 9})}},
       "none of the bits"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", scale}, {"q.weight_shape", longs({2, -4})}},
       "rows of -4 numbers"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", scale}, {"q.weight_shape", longs({2, INT64_MAX})}},
       "none of"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", at::ones({2, 3})}, {"q.weight_shape", longs({2, 4})}},
       "does not divide"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", at::ones({0, 1})}, {"q.weight_shape", longs({2, 4})}},
       "does not divide"},
      {{{"q.weight_packed", codes}, {"q.weight_scale", longs({1, 1})}, {"q.weight_shape", longs({2, 4})}},
       "scales are F32"},
      {{{"q.weight_packed", codes.to(at::kFloat)},
        {"q.weight_scale", scale},
        {"q.weight_shape", longs({2, 4})}},
       "takes I32"},
      {{{"q.weight_packed", codes},
        {"q.weight_scale", scale},
        {"q.weight_zero_point", at::zeros({2, 2}, at::kInt)},
        {"q.weight_shape", longs({2, 4})}},
       "zero point"},
  };
  for (const auto& [tensors, words] : cases) {
    write(kFourBits, tensors);
    EXPECT_THAT(error(), AllOf(HasSubstr("q."), HasSubstr(words)));
  }
}

TEST_F(QuantizationTest, AScaleWithoutAWeightIsLeftOver) {
  write(kFourBits, {{"q.weight", at::ones({2, 4})}, {"q.weight_scale", at::ones({2, 1})}});
  const StateDict dict = open();
  static_cast<void>(dict.get("q.weight", {2, 4}));
  EXPECT_THAT(message_of<ModelError>([&] { dict.check_all_used(); }), HasSubstr("q.weight_scale"));
}

TEST_F(QuantizationTest, WithoutASettingBytesAreNoNumbers) {
  folder_.write("config.json", "{}");
  folder_.write("model.safetensors", safetensors({{"q.weight", at::ones({2, 2}).to(at::kFloat8_e4m3fn)}}));
  EXPECT_THAT(message_of<ModelError>([&] {
                static_cast<void>(open().get("q.weight", {2, 2}));
              }),
              HasSubstr("as F8_E4M3: tte computes with"));
}

}  // namespace
}  // namespace tte::weights
