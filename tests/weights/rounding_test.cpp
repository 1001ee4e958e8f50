// Checkpoints that are written rounded, and taken out as they were written.
#include "weights/rounding.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "expect_error.h"
#include "safetensors_file.h"
#include "temp_dir.h"
#include "tte/error.h"
#include "weights/mapped_file.h"
#include "weights/safetensors_writer.h"
#include "weights/state_dict.h"

namespace tte::weights {
namespace {

using base::Json;
using base::LinearFormat;
using ::testing::HasSubstr;
using testing::message_of;
using testing::numbered;
using testing::safetensors;
using testing::TempDir;

// Not a good way to round, but one that says what was rounded.
base::RoundedMatrix cut_off(const at::Tensor& matrix) {
  return {matrix.to(at::kChar), at::full({matrix.size(0), 1}, 0.5F)};
}

// Keeps what it was given.
struct Packed {
  std::vector<at::Tensor> numbers;
  std::vector<std::vector<base::RoundedMatrix>> rounded;

  StateDict::Packer packer() {
    return {[this](const at::Tensor& matrix) { return numbers.emplace_back(matrix); },
            [this](const std::vector<base::RoundedMatrix>& parts) {
              return rounded.emplace_back(parts).front().codes;
            }};
  }
};

Placement placement() {
  Placement placement;
  placement.linears = LinearFormat::kInt8;
  return placement;
}

class RoundingTest : public ::testing::Test {
 protected:
  // What a model takes out of a checkpoint, rounded, and the folder that has it.
  void write(const Naming& naming = {}, const std::string& head = "q.weight") {
    original_.write("model.safetensors", safetensors({{"embed.weight", numbered({4, 6})},
                                                      {"n.weight", numbered({6}, 1, at::kBFloat16)},
                                                      {"q.bias", numbered({3}, 2)},
                                                      {"q.weight", numbered({3, 6}, 3, at::kBFloat16)},
                                                      {"unread", at::arange(3, at::kLong)}}));
    const StateDict dict = StateDict::open(original_.path(), placement(), naming);
    Packed packed;
    static_cast<void>(dict.packed({head}, {dict.shape(head)}, packed.packer()));
    for (const char* name : {"embed.weight", "n.weight", "q.bias"})
      static_cast<void>(dict.get(name, dict.shape(name)));
    folder_.write("config.json", Json{{"quantization_config", rounding_config(LinearFormat::kInt8)}}.dump());
    write_safetensors(folder_.path() / "model.safetensors", dict.rounded(cut_off),
                      rounding_metadata(LinearFormat::kInt8));
  }
  TempDir original_, folder_;
};

TEST_F(RoundingTest, MatricesThatWerePackedAreRoundedAndOthersStay) {
  write();
  EXPECT_EQ(rounding_of(original_.path()), std::nullopt);
  EXPECT_EQ(rounding_of(folder_.path()), LinearFormat::kInt8);
  const StateDict dict = StateDict::open(folder_.path(), placement());
  Packed packed;
  static_cast<void>(dict.packed({"q.weight"}, {{3, 6}}, packed.packer()));
  EXPECT_TRUE(packed.numbers.empty()) << "rounded again";
  ASSERT_EQ(packed.rounded.size(), 1U);
  const base::RoundedMatrix& q = packed.rounded[0].at(0);
  EXPECT_TRUE(q.codes.equal(numbered({3, 6}, 3, at::kBFloat16).to(at::kChar)));
  EXPECT_TRUE(q.scales.equal(at::full({3, 1}, 0.5F)));
  EXPECT_TRUE(dict.get("embed.weight", {4, 6}).equal(numbered({4, 6})));
  EXPECT_TRUE(dict.get("n.weight", {6}).equal(numbered({6}, 1, at::kBFloat16)));
  EXPECT_TRUE(dict.get("q.bias", {3}).equal(numbered({3}, 2)));
  dict.mark_used("unread");
  dict.check_all_used();
}

// Codes and scales of a slice are those of the file.
TEST_F(RoundingTest, SlicesOfBytes) {
  write();
  const StateDict dict = StateDict::open(folder_.path(), placement());
  const at::Tensor codes = numbered({3, 6}, 3, at::kBFloat16).to(at::kChar);
  for (const std::int64_t i : {0, 1, 2}) {
    Packed packed;
    static_cast<void>(
        dict.slice({i, 3, at::kCPU, {"q"}, {}}).packed({"q.weight"}, {{1, 6}}, packed.packer()));
    static_cast<void>(
        dict.slice({i, 3, at::kCPU, {}, {"q"}}).packed({"q.weight"}, {{3, 2}}, packed.packer()));
    ASSERT_EQ(packed.rounded.size(), 2U);
    EXPECT_TRUE(packed.rounded[0].at(0).codes.equal(codes.narrow(0, i, 1)));
    EXPECT_TRUE(packed.rounded[0].at(0).scales.equal(at::full({1, 1}, 0.5F)));
    EXPECT_TRUE(packed.rounded[1].at(0).codes.equal(codes.narrow(1, 2 * i, 2)));
    EXPECT_TRUE(packed.rounded[1].at(0).scales.equal(at::full({3, 1}, 0.5F))) << "of all inputs";
  }
}

TEST_F(RoundingTest, SlicesOfFourBitsEndBetweenTwoScales) {
  constexpr std::int64_t kOutputs = 2, kInputs = 4 * base::kInt4Group;
  const base::RoundedMatrix matrix = {
      at::arange(kOutputs * kInputs / 2, at::kLong).remainder(251).to(at::kByte).view({kOutputs, -1}),
      numbered({kOutputs, 4}, 1), at::arange(kOutputs * 16, at::kChar).view({kOutputs, 16})};
  write_safetensors(folder_.path() / "model.safetensors",
                    {rounded_tensors("o", {kOutputs, kInputs}, LinearFormat::kInt4, [&] { return matrix; })},
                    rounding_metadata(LinearFormat::kInt4));
  folder_.write("config.json", Json{{"quantization_config", rounding_config(LinearFormat::kInt4)}}.dump());
  Placement four;
  four.linears = LinearFormat::kInt4;
  const StateDict dict = StateDict::open(folder_.path(), four);
  const auto slice = [&](std::int64_t index, std::int64_t count, bool by_inputs) {
    Packed packed;
    const std::vector<std::string> all = {"o"}, none;
    static_cast<void>(dict.slice({index, count, at::kCPU, by_inputs ? none : all, by_inputs ? all : none})
                          .packed({"o.weight"},
                                  {{kOutputs / (by_inputs ? 1 : count), kInputs / (by_inputs ? count : 1)}},
                                  packed.packer()));
    EXPECT_TRUE(packed.numbers.empty()) << "rounded again";
    return packed.rounded.at(0).at(0);
  };
  for (const std::int64_t i : {0, 1}) {
    const base::RoundedMatrix inputs = slice(i, 2, true), outputs = slice(i, 2, false);
    EXPECT_TRUE(inputs.codes.equal(matrix.codes.narrow(1, i * kInputs / 4, kInputs / 4)));
    EXPECT_TRUE(inputs.scales.equal(matrix.scales.narrow(1, 2 * i, 2)));
    EXPECT_TRUE(inputs.factors.equal(matrix.factors.narrow(1, 8 * i, 8)));
    EXPECT_TRUE(outputs.codes.equal(matrix.codes.narrow(0, i, 1)));
    EXPECT_TRUE(outputs.scales.equal(matrix.scales.narrow(0, i, 1)));
    EXPECT_TRUE(outputs.factors.equal(matrix.factors.narrow(0, i, 1)));
  }
  const std::string message = message_of<ModelError>([&] { (void)slice(0, 8, true); });
  EXPECT_THAT(message,
              ::testing::AllOf(HasSubstr("64 of its 512 inputs"), HasSubstr("lower tensor_parallel")));
  EXPECT_LT(message.size(), 500U);
}

TEST_F(RoundingTest, InAnotherFormatItIsNumbers) {
  write();
  Placement other;
  other.linears = LinearFormat::kInt4;
  const StateDict dict = StateDict::open(folder_.path(), other);
  Packed packed;
  static_cast<void>(dict.packed({"q.weight"}, {{3, 6}}, packed.packer()));
  ASSERT_EQ(packed.numbers.size(), 1U);
  EXPECT_TRUE(
      packed.numbers[0].equal(numbered({3, 6}, 3, at::kBFloat16).to(at::kChar) * at::full({1}, 0.5F)));
}

TEST_F(RoundingTest, ATiedMatrixBecomesTwo) {
  Naming naming;
  naming.tied = std::pair("embed.weight", "head.weight");
  write(naming, "embed.weight");
  const StateDict dict = StateDict::open(folder_.path(), placement(), naming);
  Packed packed;
  static_cast<void>(dict.packed({"head.weight"}, {{4, 6}}, packed.packer()));
  ASSERT_EQ(packed.rounded.size(), 1U);
  EXPECT_TRUE(packed.rounded[0].at(0).codes.equal(numbered({4, 6}).to(at::kChar)));
  EXPECT_TRUE(dict.get("embed.weight", {4, 6}).equal(numbered({4, 6})));
  EXPECT_TRUE(dict.get("q.weight", {3, 6}).equal(numbered({3, 6}, 3, at::kBFloat16)));
}

TEST_F(RoundingTest, EveryTensorLiesAsItsTypeWantsIt) {
  const auto group = [](const char* name, const char* dtype, const at::Tensor& tensor) {
    return TensorsToWrite{{{name, dtype, tensor.sizes().vec()}}, [tensor] { return std::vector{tensor}; }};
  };
  const std::vector<TensorsToWrite> groups = {
      group("a", "I8", at::arange(3, at::kChar)), group("b", "F32", numbered({5})),
      group("c", "I64", at::arange(2, at::kLong)), group("d", "BF16", numbered({1}, 0, at::kBFloat16)),
      group("e", "F32", at::empty({0}))};
  const auto path = folder_.path() / "some.safetensors";
  write_safetensors(path, groups, {{"tte.note", "mine"}, {"format", "pt"}});
  const auto file = MappedFile::open(path);
  Metadata metadata;
  const auto tensors = read_safetensors(file->bytes(), file->name(), &metadata);
  EXPECT_EQ(metadata, (Metadata{{"tte.note", "mine"}}));
  std::string names;
  for (const StoredTensor& tensor : tensors) {
    names += tensor.name;
    EXPECT_EQ(tensor.begin % (*bits_of(tensor.dtype) / 8), 0U) << tensor.name;
  }
  EXPECT_THAT(names, ::testing::AnyOf("cbeda", "cebda"));
  EXPECT_THAT(message_of<InputError>([&] { write_safetensors(path, groups, {}); }), HasSubstr("File exists"));
}

TEST_F(RoundingTest, WhatAnotherVersionWroteIsRefused) {
  write();
  const auto path = folder_.path() / "model.safetensors";
  for (const auto& [key, value, why] :
       {std::tuple("tte.version", "2", "another version"), std::tuple("tte.version", "", "another version"),
        std::tuple("tte.quantization", "int3", "does not know"),
        std::tuple("tte.quantization", "none", "does not know"),
        std::tuple("tte.group_size", "64", "does not know")}) {
    Metadata metadata = rounding_metadata(LinearFormat::kInt8);
    metadata[key] = value;
    std::filesystem::remove(path);
    write_safetensors(path, {}, metadata);
    EXPECT_THAT(message_of<ModelError>([&] { static_cast<void>(rounding_of(folder_.path())); }),
                HasSubstr(why));
  }
}

}  // namespace
}  // namespace tte::weights
