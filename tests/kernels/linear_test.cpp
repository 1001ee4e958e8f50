#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "kernels/arithmetic.h"
#include "kernels/cpu/linear.h"
#include "kernels/reference.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::random;
using reference::rounding;

class LinearTest : public ArithmeticTest {};

// Sums of `in` products of standard normal values are about sqrt(in) large; the weight is scaled to make them
// about 1.
double tolerance(at::ScalarType type, std::int64_t in) {
  return rounding(type) * 1.01 + 4.0 * rounding(at::kFloat) * std::sqrt(static_cast<double>(in));
}

TEST_P(LinearTest, MatchesFloat64OverShapes) {
  const auto type = GetParam().type;
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
  const auto type = GetParam().type;
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

INSTANTIATE_TEST_SUITE_P(Types, LinearTest, all_arithmetic(), arithmetic_name);

TEST(OneDnnTest, FilledRowsAreAFewNumbers) {
  std::set<std::int64_t> numbers;
  for (std::int64_t rows = 1; rows <= cpu::kMostRows; ++rows) {
    const std::int64_t filled = cpu::filled_rows(rows);
    ASSERT_GE(filled, rows);
    ASSERT_LE(filled, cpu::kMostRows);
    ASSERT_EQ(cpu::filled_rows(filled), filled) << rows << " rows";
    // What is computed for nothing: a tile's rows, or less than a third.
    ASSERT_TRUE(filled - rows < 64 || 3 * (filled - rows) < filled) << rows << " rows";
    numbers.insert(filled);
  }
  EXPECT_LE(numbers.size(), 12U);
}

TEST(OneDnnTest, TakesProductsByTheirWork) {
  EXPECT_FALSE(cpu::is_large_product(8, 8960, 1536)) << "a few rows of a large weight";
  EXPECT_TRUE(cpu::is_large_product(9, 1024, 1024));
  EXPECT_FALSE(cpu::is_large_product(9, 1536, 512)) << "a few rows of a middling weight";
  EXPECT_TRUE(cpu::is_large_product(2000, 1536, 512)) << "many rows of a middling weight";
  EXPECT_FALSE(cpu::is_large_product(100000, 256, 1024)) << "small models keep their bits in any batch";
}

class OneDnnProducts : public testing::TestWithParam<at::ScalarType> {
 protected:
  OneDnnProducts() { cpu::choose_products(cpu::Products::kOneDnn); }
  ~OneDnnProducts() override { cpu::choose_products(cpu::Products::kByProcessor); }
};

TEST_P(OneDnnProducts, MatchFloat64AtTheEdgesOfTheirParts) {
  const auto type = GetParam();
  const at::Tensor weight = random({1024, 512}, type, 2, 1.0 / std::sqrt(512)),
                   bias = random({1024}, type, 3);
  const at::Tensor all = random({2100, 2, 512}, type, 1).select(1, 1),
                   right = reference::linear(all, weight, bias);
  for (const std::int64_t rows : {9, 16, 17, 64, 65, 513, 1024, 1025, 2100}) {
    EXPECT_EQ(difference(kernels::linear(all.narrow(0, 0, rows), weight, bias), right.narrow(0, 0, rows),
                         2.02 * rounding(type) + 4.0 * rounding(at::kFloat) * std::sqrt(512)),
              "")
        << rows << " rows";
  }
  const at::Tensor x = all.narrow(0, 0, 100);
  EXPECT_EQ(
      difference(kernels::linear(x, weight, {}), reference::linear(x, weight, {}), 2.02 * rounding(type)), "")
      << "without bias";
}

INSTANTIATE_TEST_SUITE_P(Types, OneDnnProducts, testing::Values(at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Megabytes that this process holds.
double resident() {
  std::int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return static_cast<double>(pages) * 4096 / 1e6;
}

// oneDNN keeps what it prepared for each number of rows: 200 MB and more here, before they were filled up.
TEST(OneDnnTest, MemoryDoesNotGrowWithTheNumbersOfRows) {
  const reference::Threads one(1);
  cpu::choose_products(cpu::Products::kOneDnn);
  const at::Tensor weight = random({1024, 512}, at::kBFloat16, 2), x = random({320, 512}, at::kBFloat16, 1);
  kernels::linear(x, weight, {});
  const double before = resident();
  for (std::int64_t rows = 20; rows < 320; ++rows) kernels::linear(x.narrow(0, 0, rows), weight, {});
  cpu::choose_products(cpu::Products::kByProcessor);
  EXPECT_LT(resident() - before, 100) << "megabytes after 300 numbers of rows";
}
#endif

TEST(LinearTest, RefusesShapesThatDoNotFit) {
  const at::Tensor x = random({2, 8}, at::kFloat, 1), weight = random({4, 9}, at::kFloat, 2);
  EXPECT_THROW(kernels::linear(x, weight, {}), c10::Error);
  EXPECT_THROW(kernels::linear(x, weight.to(at::kHalf), {}), c10::Error);
  EXPECT_THROW(kernels::linear(x.to(at::kDouble), weight.to(at::kDouble), {}), c10::Error);
}

}  // namespace
}  // namespace tte::kernels
