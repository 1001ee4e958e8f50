// Whole decoders of random weights: those of the CUDA kernels against the CPU's in float32.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cuda_check/device.h"
#include "cuda_check/random_decoder.h"
#include "cuda_check/steps.h"
#include "kernels/kernels.h"
#include "kernels/packed_weight.h"
#include "temp_dir.h"
#include "weights/rounding.h"
#include "weights/safetensors_writer.h"
#include "weights/state_dict.h"

namespace tte::testing {
namespace {

using base::LinearFormat;
using models::LanguageModel;

// Tokens of two prompts that are read in one step, those of the step in which the first goes on while more of the
// second is read, and steps in which both go on.
constexpr std::int64_t kPrompts[] = {kLongestPrompt, kIsShim ? 6 : 90};
constexpr std::int64_t kPiece = 12;
constexpr int kDecodeSteps = kIsShim ? 1 : 3;

// The logits of all rows of some steps.
at::Tensor logits_of(const LanguageModel& model) {
  Steps steps(model, 2);
  std::vector<at::Tensor> logits{steps.step({{0, kPrompts[0]}, {1, kPrompts[1]}}, /*all=*/true)};
  logits.push_back(steps.step({{0, 1}, {1, kPiece}}, /*all=*/false));
  for (int i = 0; i < kDecodeSteps; ++i) logits.push_back(steps.step({{0, 1}, {1, 1}}, /*all=*/true));
  return at::cat(logits);
}

// The CPU's in float32, of a decoder whose matrices are numbers that were rounded before.
const at::Tensor& expected_logits(DecoderKind kind, LinearFormat rounded) {
  static std::map<std::pair<DecoderKind, LinearFormat>, at::Tensor> known;
  at::Tensor& logits = known[{kind, rounded}];
  if (logits.defined()) return logits;
  const TempDir folder;
  const auto file = folder.path() / "model.safetensors";
  write_decoder(file, kind, kSmall, rounded);
  use_cuda(false);
  logits = logits_of(load_small(file, kind, at::kCPU, at::kFloat, LinearFormat::kPlain));
  use_cuda(true);
  return logits;
}

struct Case {
  DecoderKind kind;
  at::ScalarType dtype;
  LinearFormat format;
};

class DecoderTest : public ::testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { kernels::load_cuda(); }
};

// How far logits, whose size is 1, may be off: on average, and one of them.
struct Tolerance {
  double mean = 0, most = 0;
};
Tolerance tolerance(at::ScalarType dtype) {
  if (dtype == at::kFloat) return {2e-5, 1e-3};
  return dtype == at::kHalf ? Tolerance{2e-3, 0.06} : Tolerance{0.015, 0.4};
}

TEST_P(DecoderTest, GivesTheLogitsOfTheCpu) {
  const auto [kind, dtype, format] = GetParam();
  const at::Tensor& expected = expected_logits(kind, format);
  const TempDir folder;
  const auto file = folder.path() / "model.safetensors";
  write_decoder(file, kind, kSmall);
  const at::Tensor actual = logits_of(load_small(file, kind, cuda_device(), dtype, format));
  ASSERT_EQ(actual.scalar_type(), at::kFloat);
  EXPECT_NEAR(expected.std().item<double>(), 1.0, 0.25);
  const at::Tensor off = (actual - expected).abs();
  const double mean = off.mean().item<double>(), most = off.max().item<double>();
  RecordProperty("mean_difference", std::to_string(mean));
  RecordProperty("largest_difference", std::to_string(most));
  EXPECT_LT(mean, tolerance(dtype).mean);
  EXPECT_LT(most, tolerance(dtype).most);  // Not where one is not a number.
}

class TensorParallelTest : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(TensorParallelTest, GivesTheLogitsOfTheCpu) {
  kernels::load_cuda();
  const std::vector<at::Device> further = further_devices();
  if (further.empty()) GTEST_SKIP() << "there is one GPU";
  const at::Tensor& expected = expected_logits(DecoderKind::kAttention, LinearFormat::kPlain);
  const TempDir folder;
  const auto file = folder.path() / "model.safetensors";
  write_decoder(file, DecoderKind::kAttention, kSmall);
  const at::Tensor actual = logits_of(load_small(file, DecoderKind::kAttention, cuda_device(), GetParam(),
                                                 LinearFormat::kPlain, /*cuda_graphs=*/false, further));
  const at::Tensor off = (actual - expected).abs();
  EXPECT_LT(off.mean().item<double>(), tolerance(GetParam()).mean);
  EXPECT_LT(off.max().item<double>(), tolerance(GetParam()).most);
}

INSTANTIATE_TEST_SUITE_P(Types, TensorParallelTest, ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return c10::toString(info.param); });

// What `tte quantize` writes of a decoder.
std::filesystem::path write_rounded(const TempDir& folder, DecoderKind kind, LinearFormat format) {
  const auto plain = folder.path() / "plain.safetensors", made = folder.path() / "model.safetensors";
  write_decoder(plain, kind, kSmall);
  weights::Placement placement;
  placement.linears = format;
  use_cuda(false);
  const auto tensors = weights::StateDict::open(base::Checkpoint(plain), placement);
  const LanguageModel model(decoder_config(kind, kSmall), tensors,
                            std::int64_t{64} << 20);  // Says which matrices are rounded.
  const auto round = [format](const at::Tensor& matrix) { return kernels::round(matrix, format); };
  weights::write_safetensors(made, tensors.rounded(round), weights::rounding_metadata(format));
  folder.write("config.json", base::Json{{"quantization_config", weights::rounding_config(format)}}.dump());
  use_cuda(true);
  return folder.path();
}

TEST(RoundedDecoderTest, IsTheSameWheneverItIsRounded) {
  kernels::load_cuda();
  for (const LinearFormat format : {LinearFormat::kInt8, LinearFormat::kInt4}) {
    const DecoderKind kind = format == LinearFormat::kInt8 ? DecoderKind::kAttention : DecoderKind::kHybrid;
    const TempDir folder;
    const auto rounded = write_rounded(folder, kind, format);
    const at::Tensor now = logits_of(
        load_small(folder.path() / "plain.safetensors", kind, cuda_device(), at::kBFloat16, format));
    const at::Tensor before = logits_of(load_small(rounded, kind, cuda_device(), at::kBFloat16, format));
    EXPECT_TRUE(now.equal(before)) << base::quantization_name(format);
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DecoderKind kind : {DecoderKind::kAttention, DecoderKind::kHybrid}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const LinearFormat format : {LinearFormat::kPlain, LinearFormat::kInt8, LinearFormat::kInt4})
        all.push_back({kind, dtype, format});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest, ::testing::ValuesIn(cases()), [](const auto& info) {
  const Case& one = info.param;
  return std::string(one.kind == DecoderKind::kHybrid ? "Hybrid" : "Attention") + "_" +
         c10::toString(one.dtype) + "_" + base::quantization_name(one.format);
});

}  // namespace
}  // namespace tte::testing
