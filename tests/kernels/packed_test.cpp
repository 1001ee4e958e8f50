// Weights in the CPU's own formats: how they are rounded, and that products with them are those of the kept numbers.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/simd/host.h"
#include "kernels/kernels.h"
#include "kernels/packed_weight.h"
#include "kernels/reference.h"

namespace tte::kernels {
namespace {

using base::LinearFormat;
using reference::difference;
using reference::random;
using reference::rounding;
using reference::Threads;

Weight packed(const at::Tensor& matrix, LinearFormat format) {
  return packed_weight(pack(matrix, format), format, matrix.size(0), matrix.size(1), matrix.scalar_type());
}

// The numbers that a weight stands for, float32 [outputs, inputs]: a row of x that has a single 1 is rounded to
// itself, and picks an input of all outputs.
at::Tensor numbers(const Weight& weight) {
  return linear_float(at::eye(weight.inputs()).to(weight.dtype()), weight).t();
}

// x as it is multiplied: rounded to 127 steps of the greatest value of each group.
at::Tensor rounded_rows(const at::Tensor& x) {
  constexpr std::int64_t group = 128;
  const std::int64_t missing = (group - x.size(1) % group) % group;
  const at::Tensor groups = at::constant_pad_nd(x.to(at::kFloat), {0, missing})
                                .view({x.size(0), (x.size(1) + missing) / group, group});
  const at::Tensor most = std::get<0>(groups.abs().max(2, true)).clamp_min(1e-30);
  return (at::round(groups * (127.0F / most)) * (most / 127.0F)).flatten(1).narrow(1, 0, x.size(1));
}

// Rows of a product do not depend on those beside them, nor on the number of threads.
void expect_rows_alone(at::ScalarType type, LinearFormat format, std::int64_t in, std::int64_t out) {
  const at::Tensor x = random({300, in}, type, 1), bias = random({out}, type, 3);
  const Weight weight = packed(random({out, in}, type, 2), format);
  const at::Tensor together = kernels::linear(x, weight, bias);
  for (const std::int64_t count : {1, 2, 3, 5, 8, 13, 64, 257}) {
    const std::int64_t begin = (x.size(0) - count) / 2;
    EXPECT_TRUE(
        kernels::linear(x.narrow(0, begin, count), weight, bias).equal(together.narrow(0, begin, count)))
        << count << " rows, " << in << " -> " << out;
  }
  for (const int count : {1, 3}) {
    const Threads threads(count);
    EXPECT_TRUE(kernels::linear(x, weight, bias).equal(together)) << count << " threads";
  }
}

// A product and what follows give the bits of one after the other, wherever the weight's outputs begin.
void expect_epilogues_alike(at::ScalarType type, LinearFormat format) {
  for (const auto& [in, out] : {std::pair{96, 128}, {1000, 384}, {200, 200}, {64, 66}}) {
    const Weight whole = packed(random({out + 70, in}, type, 2, 1.0 / std::sqrt(in)), format);
    const at::Tensor bias = random({out}, type, 3);
    for (const std::int64_t begin : {0, 64, 5}) {
      const Weight weight = whole.part(begin, out);
      for (const std::int64_t rows : {0, 1, 3, 17, 241, 500}) {
        const at::Tensor x = random({rows, in}, type, 1);
        const std::string where = fmt::format("{} rows, {} -> {} from {} on", rows, in, out, begin);
        for (const auto& b : {std::optional<at::Tensor>(), std::optional<at::Tensor>(bias)}) {
          const at::Tensor product = kernels::linear(x, weight, b);
          EXPECT_TRUE(linear_silu_mul(x, weight, b).equal(silu_mul(product))) << where;
          for (const Activation activation : {Activation::kQuickGelu, Activation::kGeluTanh})
            EXPECT_TRUE(linear_activated(x, weight, b, activation).equal(activate(product, activation)))
                << where;
        }
      }
    }
  }
}

struct Case {
  at::ScalarType type;
  LinearFormat format;
};

class QuantizedTest : public testing::TestWithParam<Case> {};

TEST_P(QuantizedTest, ProductsAreThoseOfTheRoundedNumbers) {
  const auto [type, format] = GetParam();
  for (const auto& [in, out] :
       {std::pair{64, 64}, {65, 33}, {1, 1}, {8, 5}, {1000, 130}, {1536, 256}, {200, 64}}) {
    const at::Tensor matrix = random({out, in}, type, 2, 1.0 / std::sqrt(in)), bias = random({out}, type, 3);
    const Weight weight = packed(matrix, format);
    const at::Tensor kept = numbers(weight);
    for (const std::int64_t rows : {0, 1, 2, 3, 6, 7, 13, 64, 250}) {
      const at::Tensor x = random({rows, in}, type, 1);
      const at::Tensor right = rounded_rows(x);
      const double sums = 8.0 * rounding(at::kFloat) * std::sqrt(static_cast<double>(in));
      EXPECT_EQ(difference(kernels::linear_float(x, weight), reference::linear(right, kept, {}), sums), "")
          << rows << " rows, " << in << " -> " << out;
      for (const auto& b : {std::optional<at::Tensor>(), std::optional<at::Tensor>(bias)}) {
        const std::optional<at::Tensor> wide = b ? std::optional(b->to(at::kFloat)) : std::nullopt;
        const at::Tensor y = kernels::linear(x, weight, b);
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_EQ(difference(y, reference::linear(right, kept, wide), rounding(type) * 1.01 + sums), "")
            << rows << " rows, " << in << " -> " << out << (b ? " with bias" : "");
      }
    }
  }
}

TEST_P(QuantizedTest, RowsDoNotDependOnTheBatchOrTheThreads) {
  const auto [type, format] = GetParam();
  for (const auto& [in, out] : {std::pair{1536, 200}, {2600, 72}, {77, 13}})
    expect_rows_alone(type, format, in, out);
}

TEST_P(QuantizedTest, WhatIsRoundedFirstIsPackedAsTheMatrixIs) {
  const auto [type, format] = GetParam();
  for (const auto& [in, out] :
       {std::pair{64, 64}, {65, 33}, {1, 1}, {8, 5}, {1000, 130}, {200, 64}, {63, 129}}) {
    at::Tensor matrix = random({out, in}, type, 2);
    if (in > 100) {
      matrix[3][in - 1] = std::numeric_limits<float>::quiet_NaN();
      matrix[4].zero_();
    }
    const at::Tensor right = pack(matrix, format);
    EXPECT_TRUE(pack({round(matrix, format)}, in, format).equal(right)) << in << " -> " << out;
    // One below the other, wherever panels begin.
    const std::int64_t first = out / 3, second = out / 2 - out / 3, third = out - out / 2;
    std::vector<base::RoundedMatrix> parts;
    for (const auto& [begin, count] :
         {std::pair{std::int64_t{0}, first}, {first, second}, {out / 2, third}}) {
      if (count > 0) parts.push_back(round(matrix.narrow(0, begin, count), format));
    }
    EXPECT_TRUE(pack(parts, in, format).equal(right)) << parts.size() << " parts, " << in << " -> " << out;
  }
}

TEST_P(QuantizedTest, CodesAndScalesAreThoseOfTheNumbers) {
  const auto [type, format] = GetParam();
  const std::int64_t in = 200, out = 70, group = format == LinearFormat::kInt8 ? in : base::kInt4Group;
  const at::Tensor matrix = random({out, in}, type, 2);
  const base::RoundedMatrix rounded = round(matrix, format);
  at::Tensor codes = rounded.codes.to(at::kInt);
  if (format == LinearFormat::kInt4) {  // The earlier code in the low half.
    EXPECT_EQ(codes.sizes(), at::IntArrayRef({out, in / 2}));
    codes = at::stack({codes.bitwise_and(15), codes.bitwise_right_shift(4)}, 2).flatten(1) - 8;
    codes = codes * rounded.factors.to(at::kInt).repeat_interleave(base::kInt4Block, 1).narrow(1, 0, in);
  }
  const at::Tensor scales = rounded.scales.repeat_interleave(group, 1).narrow(1, 0, in);
  const at::Tensor kept = numbers(packed(matrix, format));
  EXPECT_LE((codes * scales - kept).abs().max().item<double>(), 1e-6);
}

TEST_P(QuantizedTest, PartsAreThoseOfTheWhole) {
  const auto [type, format] = GetParam();
  const at::Tensor x = random({7, 96}, type, 1);
  const Weight weight = packed(random({210, 96}, type, 2), format);
  const at::Tensor whole = kernels::linear(x, weight, {});
  for (const auto& [begin, count] :
       {std::pair{0, 210}, {0, 60}, {60, 70}, {64, 64}, {130, 80}, {209, 1}, {5, 0}}) {
    const Weight part = weight.part(begin, count);
    EXPECT_EQ(part.outputs(), count);
    EXPECT_TRUE(kernels::linear(x, part, {}).equal(whole.narrow(1, begin, count))) << begin << " + " << count;
    const Weight inner = weight.part(3, 200);
    if (begin < 190 && begin + count <= 200) {
      EXPECT_TRUE(kernels::linear(x, inner.part(begin, count), {}).equal(whole.narrow(1, 3 + begin, count)))
          << "a part of a part, " << begin << " + " << count;
    }
  }
}

TEST_P(QuantizedTest, EpiloguesAreAsAfterTheProduct) {
  expect_epilogues_alike(GetParam().type, GetParam().format);
}

TEST_P(QuantizedTest, ValuesThatAreNotFiniteShow) {
  const auto [type, format] = GetParam();
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    at::Tensor matrix = random({70, 200}, type, 2);
    matrix[5][3] = bad;
    at::Tensor x = random({3, 200}, type, 1);
    at::Tensor y = kernels::linear(x, packed(matrix, format), {});
    EXPECT_TRUE(y.select(1, 5).isnan().all().item<bool>()) << "a weight of " << bad;
    EXPECT_FALSE(y.narrow(1, 6, 64).isnan().any().item<bool>()) << "a weight of " << bad;
    x[1][150] = bad;
    y = kernels::linear(x, packed(random({70, 200}, type, 2), format), {});
    EXPECT_TRUE(y[1].isnan().all().item<bool>()) << "a value of " << bad;
    EXPECT_FALSE(y[0].isnan().any().item<bool>() || y[2].isnan().any().item<bool>()) << "a value of " << bad;
  }
}

TEST_P(QuantizedTest, ZerosAndTheSmallestValuesAreNothing) {
  const auto [type, format] = GetParam();
  const at::Tensor x = random({3, 128}, type, 1), zeros = at::zeros({64, 128}, type);
  const Weight weight = packed(random({64, 128}, type, 2), format);
  EXPECT_TRUE(kernels::linear(x, packed(zeros, format), {}).equal(at::zeros({3, 64}, type)));
  EXPECT_TRUE(kernels::linear(at::zeros_like(x), weight, {}).equal(at::zeros({3, 64}, type)));
  const at::Tensor smallest = at::full({3, 128}, std::numeric_limits<float>::denorm_min()).to(type);
  EXPECT_FALSE(kernels::linear(smallest, weight, {}).isnan().any().item<bool>());
  EXPECT_FALSE(kernels::linear(x, packed(smallest, format), {}).isnan().any().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizedTest,
    testing::Values(Case{at::kFloat, LinearFormat::kInt8}, Case{at::kBFloat16, LinearFormat::kInt8},
                    Case{at::kHalf, LinearFormat::kInt8}, Case{at::kFloat, LinearFormat::kInt4},
                    Case{at::kBFloat16, LinearFormat::kInt4}, Case{at::kHalf, LinearFormat::kInt4}),
    [](const auto& info) {
      return std::string(c10::toString(info.param.type)) + "_" + base::quantization_name(info.param.format);
    });

TEST(QuantizeTest, EightBitsAreWithinHalfAStepOfEachOutput) {
  const at::Tensor matrix = random({100, 300}, at::kFloat, 1) * at::logspace(-20, 10, 100, 10).unsqueeze(1);
  const at::Tensor kept = numbers(packed(matrix, LinearFormat::kInt8));
  const at::Tensor step = std::get<0>(matrix.abs().max(1, true)) / 127;
  EXPECT_LE(((kept - matrix).abs() / step).max().item<float>(), 0.501);
}

TEST(QuantizeTest, FourBitsLoseLessThanTheSimpleScale) {
  const at::Tensor matrix = random({256, 512}, at::kFloat, 1);
  const at::Tensor groups = matrix.view({256, 16, 32});
  const auto error = [&](const at::Tensor& kept) {
    return ((kept.reshape_as(matrix) - matrix).norm() / matrix.norm()).item<double>();
  };
  // What is usual: the greatest magnitude is 7 steps.
  const at::Tensor scale = std::get<0>(groups.abs().max(2, true)) / 7;
  const double simple = error(at::round(groups / scale) * scale);
  const double kept = error(numbers(packed(matrix, LinearFormat::kInt4)));
  EXPECT_LT(kept, 0.95 * simple);
  EXPECT_LT(kept, 0.083) << "of normally distributed numbers";
}

TEST(QuantizeTest, FourBitsKeepWhatTheyCanSay) {
  // Multiples of one step in each group, from -8 to 7, whatever the sign of the greatest.
  const at::Tensor codes = at::arange(64 * 96).remainder(16).view({64, 96}) - 8;
  const at::Tensor matrix = codes.to(at::kFloat) * 0.25;
  EXPECT_TRUE(numbers(packed(matrix, LinearFormat::kInt4)).allclose(matrix, 1e-6, 1e-6));
  EXPECT_TRUE(numbers(packed(-matrix, LinearFormat::kInt4)).allclose(-matrix, 1e-6, 1e-6));
}

TEST(QuantizeTest, FourBitsFitBlocksOfUnequalSizes) {
  // Within a group of 128 inputs, the blocks of 32 are up to 5 times as large as others.
  const at::Tensor sizes = at::tensor({1.0F, 0.2F, 0.5F, -0.7F}).repeat_interleave(32).repeat({4});
  const at::Tensor matrix = random({256, 512}, at::kFloat, 1) * sizes;
  const Weight weight = packed(matrix, LinearFormat::kInt4);
  const at::Tensor kept = numbers(weight);
  EXPECT_LT(((kept - matrix).norm() / matrix.norm()).item<double>(), 0.083);
  for (const std::int64_t block : {0, 1, 2, 3}) {
    const at::Tensor right = matrix.narrow(1, 32 * block, 32);
    EXPECT_LT(((kept.narrow(1, 32 * block, 32) - right).norm() / right.norm()).item<double>(), 0.1) << block;
  }
}

TEST(QuantizeTest, TheGreatestCodesAndFactorsFitIntoBytes) {
  // Every block's greatest value, of either sign, is all of the group's range, and x is all of its own.
  at::Tensor matrix = at::ones({64, 256});
  matrix.narrow(0, 16, 16).neg_();
  matrix.slice(0, 32, 64, 2).slice(1, 0, 256, 2).neg_();
  matrix.slice(0, 33, 64, 2).slice(1, 0, 256, 32).neg_();
  const Weight weight = packed(matrix, LinearFormat::kInt4);
  const at::Tensor x = at::where(random({40, 256}, at::kFloat, 1) > 0, 1.0F, -1.0F);
  const at::Tensor many = linear_float(x, weight);
  EXPECT_EQ(difference(many, reference::linear(x, numbers(weight), {}), 1e-6), "");
  for (std::int64_t row = 0; row < x.size(0); ++row)
    EXPECT_TRUE(linear_float(x.narrow(0, row, 1), weight).equal(many.narrow(0, row, 1))) << row;
}

TEST(QuantizeTest, ManyOutputsAreSharedAmongThreads) {
  const at::Tensor matrix = random({1000, 200}, at::kBFloat16, 1);
  const at::Tensor together = pack(matrix, LinearFormat::kInt4);
  const Threads threads(3);
  EXPECT_TRUE(pack(matrix, LinearFormat::kInt4).equal(together));
}

// Pairs of bfloat16 values are multiplied where the processor can, or widened.
class PanelsTest : public testing::TestWithParam<bool> {
 protected:
  PanelsTest() { simd::choose_pairs(GetParam()); }
  ~PanelsTest() override { simd::choose_pairs(std::nullopt); }
};
INSTANTIATE_TEST_SUITE_P(Pairs, PanelsTest, testing::Bool());

TEST_P(PanelsTest, MatchFloat64OverShapes) {
  for (const auto& [in, out] : {std::pair{64, 48}, {2, 1}, {1000, 130}, {2600, 64}, {4102, 200}}) {
    const at::Tensor matrix = random({out, in}, at::kBFloat16, 2, 1.0 / std::sqrt(in));
    const at::Tensor bias = random({out}, at::kBFloat16, 3);
    const Weight weight = packed(matrix, LinearFormat::kPanels);
    for (const std::int64_t rows : {0, 1, 2, 3, 6, 7, 13, 64, 97, 250}) {
      const at::Tensor x = random({rows, 3, in}, at::kBFloat16, 1).select(1, 1);
      const double sums = 8.0 * rounding(at::kFloat) * std::sqrt(static_cast<double>(in));
      EXPECT_EQ(difference(kernels::linear_float(x, weight), reference::linear(x, matrix, {}), sums), "")
          << rows << " rows, " << in << " -> " << out;
      for (const auto& b : {std::optional<at::Tensor>(), std::optional<at::Tensor>(bias)}) {
        EXPECT_EQ(difference(kernels::linear(x, weight, b), reference::linear(x, matrix, b),
                             rounding(at::kBFloat16) * 1.01 + sums),
                  "")
            << rows << " rows, " << in << " -> " << out << (b ? " with bias" : "");
      }
    }
  }
}

TEST_P(PanelsTest, RowsDoNotDependOnTheBatchOrTheThreads) {
  for (const auto& [in, out] : {std::pair{1536, 200}, {2600, 72}, {78, 13}})
    expect_rows_alone(at::kBFloat16, LinearFormat::kPanels, in, out);
}

TEST_P(PanelsTest, PartsAreThoseOfTheWhole) {
  const at::Tensor x = random({7, 96}, at::kBFloat16, 1);
  const Weight weight = packed(random({210, 96}, at::kBFloat16, 2), LinearFormat::kPanels);
  const at::Tensor whole = kernels::linear(x, weight, {});
  for (const auto& [begin, count] :
       {std::pair{0, 210}, {0, 60}, {60, 70}, {64, 64}, {130, 80}, {209, 1}, {5, 0}})
    EXPECT_TRUE(kernels::linear(x, weight.part(begin, count), {}).equal(whole.narrow(1, begin, count)))
        << begin << " + " << count;
}

TEST_P(PanelsTest, EpiloguesAreAsAfterTheProduct) {
  expect_epilogues_alike(at::kBFloat16, LinearFormat::kPanels);
}

TEST(PackTest, SaysWhatItPacks) {
  EXPECT_FALSE(is_packed(LinearFormat::kPlain, 1024, 1024, at::kBFloat16));
  EXPECT_FALSE(is_packed(LinearFormat::kPanels, 1024, 1024, at::kFloat));
  EXPECT_FALSE(is_packed(LinearFormat::kPanels, 1024, 1023, at::kBFloat16));
  for (const auto format : {LinearFormat::kInt8, LinearFormat::kInt4}) {
    EXPECT_TRUE(is_packed(format, 64, 65, at::kFloat));
    EXPECT_FALSE(is_packed(format, 63, 1024, at::kFloat));
    EXPECT_FALSE(is_packed(format, 1024, 63, at::kFloat));
  }
}

TEST(PackTest, BytesOfAnotherShapeAreRefused) {
  const at::Tensor bytes = pack(random({100, 200}, at::kFloat, 1), LinearFormat::kInt8);
  EXPECT_THROW(packed_weight(bytes, LinearFormat::kInt8, 200, 200, at::kFloat), c10::Error);
  EXPECT_THROW(packed_weight(bytes, LinearFormat::kInt4, 100, 200, at::kFloat), c10::Error);
  EXPECT_THROW(pack(random({4, 4}, at::kFloat, 1), LinearFormat::kPlain), c10::Error);
  EXPECT_THROW(pack(random({64, 64}, at::kFloat, 1), LinearFormat::kPanels), c10::Error);
  EXPECT_THROW(pack(random({64, 63}, at::kBFloat16, 1), LinearFormat::kPanels), c10::Error);
}

}  // namespace
}  // namespace tte::kernels
