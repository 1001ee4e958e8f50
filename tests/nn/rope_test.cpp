#include "nn/rope.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tte::nn {
namespace {

using ::testing::ElementsAre;

TEST(Rope, ContiguousSections) {
  EXPECT_THAT(contiguous_sections({2, 1, 3}), ElementsAre(0, 0, 1, 2, 2, 2));
}

TEST(Rope, InterleavedSections) {
  EXPECT_THAT(interleaved_sections({3, 2, 2}, 7), ElementsAre(0, 1, 2, 0, 1, 2, 0));
  EXPECT_THAT(interleaved_sections({4, 1, 1}, 6), ElementsAre(0, 1, 2, 0, 0, 0));
  EXPECT_THAT(interleaved_sections({2, 3, 3}, 8), ElementsAre(0, 1, 2, 0, 1, 2, 0, 1)) << "axis 2 is cut";
  EXPECT_THAT(interleaved_sections({3, 0, 0}, 3), ElementsAre(0, 0, 0));
  EXPECT_THAT(interleaved_sections({11, 11, 10}, 4), ElementsAre(0, 1, 2, 0)) << "sections of larger heads";
}

TEST(Rope, TextFrequenciesTurnWithTheirAxis) {
  const Rope rope = Rope::text(8, 10000.0, {0, 1, 2, 2});
  const at::Tensor positions = at::tensor({0, 3, 0, 5, 0, 7}, at::kLong).view({3, 2});
  const RopeTable table = rope.table(positions, at::kFloat);
  ASSERT_EQ(table.cos.sizes(), (std::vector<std::int64_t>{2, 8}));
  const double turning[] = {3, 5, 7, 7};
  for (int i = 0; i < 8; ++i) {
    const double angle = turning[i % 4] * std::pow(10000.0, -2.0 * (i % 4) / 8);
    EXPECT_EQ(table.cos[0][i].item<float>(), 1) << i;
    EXPECT_NEAR(table.cos[1][i].item<float>(), std::cos(angle), 1e-6) << i;
    EXPECT_NEAR(table.sin[1][i].item<float>(), std::sin(angle), 1e-6) << i;
  }
}

TEST(Rope, VisionTurnsRowsThenColumns) {
  const Rope rope = Rope::vision(12, 10000.0);
  const at::Tensor positions = at::tensor({4, 9}, at::kLong).view({2, 1});
  const RopeTable table = rope.table(positions, at::kFloat);
  const double turning[] = {4, 4, 4, 9, 9, 9};
  for (int i = 0; i < 12; ++i) {
    const double angle = turning[i % 6] * std::pow(10000.0, -2.0 * (i % 3) / 6);
    EXPECT_NEAR(table.cos[0][i].item<float>(), std::cos(angle), 1e-6) << i;
    EXPECT_NEAR(table.sin[0][i].item<float>(), std::sin(angle), 1e-6) << i;
  }
}

TEST(Rope, TablesAreRoundedAsTheReferenceRoundsThem) {
  const Rope rope = Rope::text(4, 100.0, {0, 0});
  const at::Tensor positions = at::arange(50, at::kLong).unsqueeze(0);
  const RopeTable exact = rope.table(positions, at::kFloat);
  const RopeTable rounded = rope.table(positions, at::kBFloat16);
  EXPECT_EQ(rounded.cos.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(rounded.cos, exact.cos.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_FALSE(at::equal(rounded.sin, exact.sin));
}

TEST(Rope, SelectsRows) {
  const Rope rope = Rope::text(4, 100.0, {0, 0});
  const RopeTable table = rope.table(at::arange(5, at::kLong).unsqueeze(0), at::kFloat);
  const RopeTable some = table.select(at::tensor({1, 4}, at::kLong));
  EXPECT_TRUE(at::equal(some.cos[1], table.cos[4]));
  EXPECT_TRUE(at::equal(some.sin[0], table.sin[1]));
}

}  // namespace
}  // namespace tte::nn
