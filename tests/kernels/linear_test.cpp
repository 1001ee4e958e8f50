#include <gtest/gtest.h>

#include "kernels/reference.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::random;
using reference::rounding;

class LinearTest : public testing::TestWithParam<at::ScalarType> {};

// Sums of `in` products of standard normal values are about sqrt(in) large; the weight is scaled to make them
// about 1.
double tolerance(at::ScalarType type, std::int64_t in) {
  return rounding(type) * 1.01 + 4.0 * rounding(at::kFloat) * std::sqrt(static_cast<double>(in));
}

TEST_P(LinearTest, MatchesFloat64OverShapes) {
  const auto type = GetParam();
  for (const std::int64_t rows : {0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 64, 300}) {
    for (const auto& [in, out] : {std::pair{64, 48}, {65, 33}, {1, 1}, {8, 5}, {1000, 130}, {1536, 256}}) {
      const at::Tensor x = random({rows, in}, type, 1);
      const at::Tensor weight = random({out, in}, type, 2, 1.0 / std::sqrt(in));
      const at::Tensor bias = random({out}, type, 3);
      for (const auto& b : {std::optional<at::Tensor>(), std::optional<at::Tensor>(bias)}) {
        const at::Tensor y = kernels::linear(x, weight, b);
        EXPECT_EQ(y.scalar_type(), type);
        EXPECT_EQ(difference(y, reference::linear(x, weight, b), tolerance(type, in)), "")
            << rows << " rows, " << in << " -> " << out << (b ? " with bias" : "");
      }
      const at::Tensor logits = kernels::linear_float(x, weight);
      EXPECT_EQ(logits.scalar_type(), at::kFloat);
      EXPECT_EQ(difference(logits, reference::linear(x, weight, {}), tolerance(at::kFloat, in)), "")
          << "linear_float, " << rows << " rows, " << in << " -> " << out;
    }
  }
}

TEST_P(LinearTest, TakesStridedRowsAndWeights) {
  const auto type = GetParam();
  for (const std::int64_t rows : {1, 5, 70}) {
    const at::Tensor x = random({rows, 3, 96}, type, 1).select(1, 1);
    const at::Tensor weight = random({2, 40, 96}, type, 2, 0.1).select(0, 1);
    const at::Tensor transposed = random({96, 40}, type, 3, 0.1).t();
    for (const at::Tensor& w : {weight, transposed}) {
      EXPECT_EQ(difference(kernels::linear(x, w, {}), reference::linear(x, w, {}), tolerance(type, 96)), "");
      EXPECT_EQ(
          difference(kernels::linear_float(x, w), reference::linear(x, w, {}), tolerance(at::kFloat, 96)),
          "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest, testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(LinearTest, RefusesShapesThatDoNotFit) {
  const at::Tensor x = random({2, 8}, at::kFloat, 1), weight = random({4, 9}, at::kFloat, 2);
  EXPECT_THROW(kernels::linear(x, weight, {}), c10::Error);
  EXPECT_THROW(kernels::linear(x, weight.to(at::kHalf), {}), c10::Error);
  EXPECT_THROW(kernels::linear(x.to(at::kDouble), weight.to(at::kDouble), {}), c10::Error);
}

}  // namespace
}  // namespace tte::kernels
