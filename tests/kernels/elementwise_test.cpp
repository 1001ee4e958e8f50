#include <gtest/gtest.h>

#include "kernels/reference.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::random;
using reference::rounding;

constexpr std::int64_t kRows[] = {0, 1, 2, 3, 17, 64, 300};
constexpr std::int64_t kWidths[] = {1, 5, 8, 64, 77, 1280, 1536};

class ElementwiseTest : public testing::TestWithParam<at::ScalarType> {};

// Normalisation rounds once before the weight and once after; float32 statistics add a few units of float32.
double norm_tolerance(at::ScalarType type) {
  return 2.02 * rounding(type) + 8.0 * rounding(at::kFloat);
}

TEST_P(ElementwiseTest, RmsNormMatchesFloat64) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t width : kWidths) {
      const at::Tensor x = random({rows, width}, type, 1, 3.0), weight = random({width}, type, 2);
      EXPECT_EQ(difference(kernels::rms_norm(x, weight, 1e-6), reference::rms_norm(x, weight, 1e-6),
                           norm_tolerance(type)),
                "")
          << rows << " x " << width;
    }
  }
}

TEST_P(ElementwiseTest, RmsNormTakesHeadsAndStridedViews) {
  const auto type = GetParam();
  const at::Tensor weight = random({32}, type, 2);
  const at::Tensor heads = random({5, 12, 32}, type, 1).narrow(1, 2, 4);  // q of a fused qkv projection.
  EXPECT_EQ(difference(kernels::rms_norm(heads, weight, 1e-6), reference::rms_norm(heads, weight, 1e-6),
                       norm_tolerance(type)),
            "");
}

TEST_P(ElementwiseTest, RmsNormOfTinyAndHugeRowsStaysFinite) {
  const auto type = GetParam();
  const at::Tensor weight = at::ones({64}, type);
  for (const double scale : {0.0, 1e-6, 1e4}) {
    const at::Tensor x = random({3, 64}, type, 1, scale);
    EXPECT_EQ(difference(kernels::rms_norm(x, weight, 1e-6), reference::rms_norm(x, weight, 1e-6),
                         norm_tolerance(type)),
              "")
        << "scale " << scale;
  }
}

TEST_P(ElementwiseTest, AddRmsNormUpdatesTheResidual) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t width : kWidths) {
      const at::Tensor before = random({rows, width}, type, 1), delta = random({rows, width}, type, 3);
      const at::Tensor weight = random({width}, type, 2);
      at::Tensor residual = before.clone();
      const at::Tensor normalised = kernels::add_rms_norm(residual, delta, weight, 1e-5);
      EXPECT_TRUE(residual.equal(before + delta)) << rows << " x " << width;
      EXPECT_EQ(difference(normalised, reference::rms_norm(residual, weight, 1e-5), norm_tolerance(type)), "")
          << rows << " x " << width;
    }
  }
}

TEST_P(ElementwiseTest, RmsNormWithOnePlusTheWeightRoundsOnce) {
  const at::ScalarType type = GetParam();
  for (const std::int64_t width : {1, 7, 64, 200}) {
    const at::Tensor x = random({5, width}, type, 1), delta = random({5, width}, type, 2),
                     weight = random({width}, type, 3);
    const double once = 1.01 * rounding(type) + 4.0 * rounding(at::kFloat);
    EXPECT_EQ(difference(kernels::rms_norm(x, weight, 1e-6, NormScale::kOnePlusWeight),
                         reference::rms_norm(x, weight, 1e-6, NormScale::kOnePlusWeight), once),
              "")
        << width;
    at::Tensor residual = x.clone();
    const at::Tensor normalised =
        kernels::add_rms_norm(residual, delta, weight, 1e-6, NormScale::kOnePlusWeight);
    EXPECT_EQ(
        difference(normalised, reference::rms_norm(residual, weight, 1e-6, NormScale::kOnePlusWeight), once),
        "")
        << width;
  }
}

TEST_P(ElementwiseTest, LayerNormMatchesFloat64) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t width : kWidths) {
      const at::Tensor x = random({rows, width}, type, 1, 2.0) + 1.0;
      const at::Tensor weight = random({width}, type, 2), bias = random({width}, type, 3);
      EXPECT_EQ(
          difference(kernels::layer_norm(x, weight, bias, 1e-6), reference::layer_norm(x, weight, bias, 1e-6),
                     1.01 * rounding(type) + 16.0 * rounding(at::kFloat)),
          "")
          << rows << " x " << width;
    }
  }
}

TEST_P(ElementwiseTest, SiluMulMatchesFloat64) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t width : kWidths) {
      const at::Tensor gate_up = random({rows, 2 * width}, type, 1, 4.0);
      const at::Tensor y = silu_mul(gate_up);
      EXPECT_TRUE(y.is_contiguous());
      EXPECT_EQ(difference(y, reference::silu_mul(gate_up), norm_tolerance(type)), "")
          << rows << " x " << width;
    }
  }
}

TEST_P(ElementwiseTest, ActivationsMatchFloat64) {
  const auto type = GetParam();
  for (const auto activation :
       {Activation::kQuickGelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
    for (const std::int64_t rows : kRows) {
      const at::Tensor x = random({rows, 77}, type, 1, 4.0);
      EXPECT_EQ(difference(activate(x, activation), reference::activate(x, activation),
                           1.01 * rounding(type) + 4.0 * rounding(at::kFloat)),
                "")
          << "activation " << static_cast<int>(activation) << ", " << rows << " rows";
    }
    // Far from zero the result is x or 0, never NaN.
    const at::Tensor far = at::tensor({-6e4, -200.0, -90.0, -20.0, 0.0, 20.0, 90.0, 200.0, 6e4}).to(type);
    EXPECT_EQ(difference(activate(far, activation), reference::activate(far, activation),
                         1.01 * rounding(type) + 4.0 * rounding(at::kFloat)),
              "")
        << "activation " << static_cast<int>(activation);
  }
}

TEST_P(ElementwiseTest, RopeRotatesViewsInPlace) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t head_dim : {2, 6, 32, 64, 72, 80, 128}) {
      const at::Tensor qkv = random({rows, 7, head_dim}, type, 1);
      const at::Tensor before = qkv.clone();
      const at::Tensor angles = random({rows, head_dim}, at::kFloat, 2, 10.0);
      at::Tensor q = qkv.narrow(1, 1, 4);
      const at::Tensor expected = reference::rope(q, angles.cos(), angles.sin());
      rope_(q, angles.cos(), angles.sin());
      EXPECT_EQ(difference(qkv.narrow(1, 1, 4), expected, 1.01 * rounding(type) + 2.0 * rounding(at::kFloat)),
                "")
          << rows << " rows, head_dim " << head_dim;
      EXPECT_TRUE(qkv.narrow(1, 0, 1).equal(before.narrow(1, 0, 1))) << "the head before the view changed";
      EXPECT_TRUE(qkv.narrow(1, 5, 2).equal(before.narrow(1, 5, 2))) << "the heads after the view changed";
    }
  }
}

TEST_P(ElementwiseTest, PartsAreAddedInFloat32) {
  const auto type = GetParam();
  const std::vector<at::Device> devices(4, at::kCPU);
  const at::Tensor x = random({3, 5}, type, 1);
  const std::vector<at::Tensor> everywhere = kernels::broadcast(x, devices);
  ASSERT_EQ(everywhere.size(), 4U);
  for (const at::Tensor& there : everywhere) EXPECT_TRUE(there.equal(x));
  std::vector<at::Tensor> parts;
  at::Tensor sum = at::zeros({3, 5}, at::kDouble);
  for (const std::uint64_t seed : {2, 3, 4, 5}) {
    parts.push_back(random({3, 5}, type, seed));
    sum += parts.back().to(at::kDouble);
  }
  const at::Tensor first = parts.front().clone();
  EXPECT_EQ(difference(kernels::reduce_sum(parts), sum, 1.01 * rounding(type) + 4.0 * rounding(at::kFloat)),
            "");
  EXPECT_TRUE(parts.front().equal(first)) << "what is added stays as it is";
  EXPECT_TRUE(kernels::reduce_sum({first}).equal(first));
  EXPECT_EQ(kernels::reduce_sum({x.narrow(0, 0, 0), x.narrow(0, 0, 0)}).size(0), 0);
  EXPECT_THROW((void)kernels::reduce_sum({x, x.narrow(1, 0, 4)}), c10::Error);
  EXPECT_THROW((void)kernels::broadcast(x, {at::Device(at::kCUDA, 0)}), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(Types, ElementwiseTest, testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace tte::kernels
