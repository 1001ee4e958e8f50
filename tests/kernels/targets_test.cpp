// Every instruction set that the kernels are compiled for and this host has gives right results.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "base/digest.h"
#include "kernels/cpu/simd/host.h"
#include "kernels/packed_weight.h"
#include "kernels/pages.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::make_pages;
using reference::Pages;
using reference::random;
using reference::rounding;

// Makes the dispatch choose `target` for a scope.
class Target {
 public:
  explicit Target(std::int64_t target) { choose(target); }
  ~Target() { choose(0); }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

 private:
  static void choose(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST(TargetsTest, AllGiveRightResults) {
  simd::has_bfloat16_instructions();  // Asked while all targets are there.
  std::map<std::pair<at::ScalarType, base::LinearFormat>, at::Tensor> quantized;
  std::int64_t left = hwy::SupportedTargets();
  ASSERT_NE(left, 0);
  while (left != 0) {
    const std::int64_t target = left & -left;
    left &= left - 1;
    const Target chosen(target);
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      SCOPED_TRACE(std::string(hwy::TargetName(target)) + ", " + c10::toString(type));
      const double once = 1.01 * rounding(type) + 64.0 * rounding(at::kFloat);
      const at::Tensor x = random({7, 133}, type, 1), weight = random({10, 133}, type, 2, 0.1);
      EXPECT_EQ(difference(kernels::linear(x, weight, {}), reference::linear(x, weight, {}), once), "");
      for (const auto format : {base::LinearFormat::kInt8, base::LinearFormat::kInt4}) {
        // Sums of whole numbers: the same bits from all.
        const at::Tensor packed = pack(weight, format);
        const at::Tensor y = kernels::linear_float(x, packed_weight(packed, format, 10, 133, type));
        const auto [it, is_first] = quantized.try_emplace({type, format}, y);
        EXPECT_EQ(difference(y, it->second, 1e-6), "") << base::quantization_name(format);
      }
      if (type == at::kBFloat16) {
        const at::Tensor even = random({10, 134}, type, 2, 0.1), rows = random({7, 134}, type, 1);
        const at::Tensor packed = pack(even, base::LinearFormat::kPanels);
        const Weight panels = packed_weight(packed, base::LinearFormat::kPanels, 10, 134, type);
        for (const bool pairs : {true, false}) {
          simd::choose_pairs(pairs);
          EXPECT_EQ(difference(kernels::linear(rows, panels, {}), reference::linear(rows, even, {}), once),
                    "");
        }
        simd::choose_pairs(std::nullopt);
      }
      const at::Tensor scale = random({133}, type, 3);
      EXPECT_EQ(
          difference(kernels::rms_norm(x, scale, 1e-6), reference::rms_norm(x, scale, 1e-6), 3.0 * once), "");
      EXPECT_EQ(difference(kernels::layer_norm(x, scale, scale, 1e-6),
                           reference::layer_norm(x, scale, scale, 1e-6), once),
                "");
      const at::Tensor gate_up = random({7, 134}, type, 4);
      EXPECT_EQ(difference(silu_mul(gate_up), reference::silu_mul(gate_up), 3.0 * once), "");
      EXPECT_EQ(difference(activate(gate_up, Activation::kGeluTanh),
                           reference::activate(gate_up, Activation::kGeluTanh), once),
                "");
      const at::Tensor heads = random({7, 3, 72}, type, 5), angles = random({7, 72}, at::kFloat, 6);
      at::Tensor rotated = heads.clone();
      rope_(rotated, angles.cos(), angles.sin());
      EXPECT_EQ(difference(rotated, reference::rope(heads, angles.cos(), angles.sin()), once), "");
      for (const std::int64_t head_dim : {64, 72}) {
        const Pages pages = make_pages({1, 30}, {300, 70}, 2, head_dim, type);
        const at::Tensor q = random({31, 6, head_dim}, type, 7);
        EXPECT_EQ(difference(paged_attention(q, pages.cache, pages.batch, 0.125),
                             reference::paged_attention(q, pages, 0.125), 3.0 * once),
                  "");
      }
    }
  }
}

// Whole numbers of 16 bits, rows of them up to 2^7 times as large, and rows of edges: made of nothing that a processor
// or a library computes in its own way.
at::Tensor numbers_to_round(at::ScalarType type) {
  constexpr std::int64_t kRows = 24, kInputs = 700;
  at::Tensor out = at::empty({kRows, kInputs});
  auto* values = out.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    const auto mixed = static_cast<std::uint32_t>(i) * 2654435761U;
    values[i] =
        std::ldexp(static_cast<float>(mixed >> 16) - 32768.0F, static_cast<int>(i / kInputs % 8) - 18);
  }
  out[20].zero_();
  out[21].mul_(1e-38F);
  out[22][5] = std::numeric_limits<float>::infinity();
  out[23][650] = -std::numeric_limits<float>::quiet_NaN();
  return out.to(type);
}

std::string digest(const base::RoundedMatrix& matrix) {
  base::Digester digester;
  for (const at::Tensor* part : {&matrix.codes, &matrix.scales, &matrix.factors}) {
    if (part->defined()) digester.bytes(part->const_data_ptr(), part->nbytes());
  }
  return digester.finish().hex();
}

// What is kept in files: the same from all, and here as elsewhere.
TEST(TargetsTest, MatricesAreRoundedToTheSameBits) {
  std::map<std::pair<at::ScalarType, base::LinearFormat>, std::string> right = {
      {{at::kFloat, base::LinearFormat::kInt8}, "1f1ad02ada123dfe452a3dd3244679c1"},
      {{at::kFloat, base::LinearFormat::kInt4}, "00e165aea96711821a4e032caa8d3629"},
      {{at::kBFloat16, base::LinearFormat::kInt8}, "529491b5f858e9396ca7cf912816bb7e"},
      {{at::kBFloat16, base::LinearFormat::kInt4}, "9b400a22ec1c3b90ba3a130a5e4096bb"},
      {{at::kHalf, base::LinearFormat::kInt8}, ""},
      {{at::kHalf, base::LinearFormat::kInt4}, ""},
  };
  std::int64_t left = hwy::SupportedTargets();
  while (left != 0) {
    const std::int64_t target = left & -left;
    left &= left - 1;
    const Target chosen(target);
    for (auto& [kind, wanted] : right) {
      const auto& [type, format] = kind;
      const std::string found = digest(round(numbers_to_round(type), format));
      if (wanted.empty()) wanted = found;
      EXPECT_EQ(found, wanted) << hwy::TargetName(target) << ", " << c10::toString(type) << ", "
                               << base::quantization_name(format);
    }
  }
}

// What is infinite, is no number, is rounded up to infinity, what is below the normal range, and what vanishes.
TEST(TargetsTest, TheEdgesOfFloat16) {
  const at::Tensor wanted =
      at::tensor({65504.0f, 65519.0f, 65520.0f, -1e6f, 6.1035e-5f, 6.0e-5f, 1.49e-7f, 8.94069671630859375e-8f,
                  -5.96e-8f, 2.9802322387695312e-8f, 2.99e-8f, 0.0f});
  // Products of two float16 values that come near: what is summed in float32 is rounded once.
  const at::Tensor scale = at::tensor({2048.0f}), weight = at::diag(scale.expand(12)).to(at::kHalf);
  const at::Tensor x = (wanted / scale).to(at::kHalf).unsqueeze(0);
  const at::Tensor right = (x.to(at::kFloat) * scale).to(at::kHalf);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const at::Tensor infinite = at::tensor({kInf, -kInf, std::nanf(""), 65504.0f}).to(at::kHalf).unsqueeze(1);
  const at::Tensor one = at::ones({1, 1}, at::kHalf);
  std::int64_t left = hwy::SupportedTargets();
  while (left != 0) {
    const std::int64_t target = left & -left;
    left &= left - 1;
    const Target chosen(target);
    EXPECT_TRUE(at::equal(kernels::linear(x, weight, {}), right)) << hwy::TargetName(target);
    EXPECT_TRUE(at::allclose(kernels::linear(infinite, one, {}), infinite, 0, 0, /*equal_nan=*/true))
        << hwy::TargetName(target);
  }
}

}  // namespace
}  // namespace tte::kernels
