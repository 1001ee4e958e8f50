#include <gtest/gtest.h>

#include <cmath>

#include "kernels/arithmetic.h"
#include "kernels/pages.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::make_pages;
using reference::Pages;
using reference::random;
using reference::rounding;
using reference::Step;
using reference::steps;

class AttentionTest : public ArithmeticTest {};

// The result is a mean of standard normal values. Kernels of two-byte types may round the weights to their
// type.
double tolerance(at::ScalarType type) {
  return type == at::kFloat ? 32.0 * rounding(at::kFloat) : 3.0 * rounding(type);
}

TEST_P(AttentionTest, RaggedBatchMatchesFloat64) {
  const auto type = GetParam().type;
  const std::vector<std::vector<std::int32_t>> batches{{0},          {0, 0},          {0, 1},
                                                       {0, 2, 2, 5}, {0, 17, 18, 82}, {0, 300}};
  for (const std::int64_t head_dim : {8, 32, 40, 64, 72, 80, 128, 256, 20}) {
    for (const auto& cu_seqlens : batches) {
      const std::int64_t rows = cu_seqlens.back();
      const at::Tensor qkv = random({rows, 8, head_dim}, type, 1);
      const at::Tensor q = qkv.narrow(1, 0, 4), k = qkv.narrow(1, 4, 2), v = qkv.narrow(1, 6, 2);
      for (const bool causal : {false, true}) {
        const double scale = 1.0 / std::sqrt(head_dim);
        EXPECT_EQ(
            difference(attention(q, k, v, cu_seqlens, causal, scale),
                       reference::ragged_attention(q, k, v, cu_seqlens, causal, scale), tolerance(type)),
            "")
            << rows << " rows, head_dim " << head_dim << (causal ? ", causal" : "");
      }
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  const auto type = GetParam().type;
  const at::Tensor q = random({70, 2, 64}, type, 1, 20.0), k = random({70, 2, 64}, type, 2, 20.0);
  const at::Tensor v = random({70, 2, 64}, type, 3);
  EXPECT_EQ(difference(
                attention(q, k, v, {0, 70}, true, 0.125),
                reference::ragged_attention(q, k, v, {0, 70}, true, 0.125),
                type == at::kFloat ? 2e-4 : tolerance(type)),  // Scores are about 1000: exp(x) loses 10 bits.
            "");
}

TEST_P(AttentionTest, PagedMatchesFloat64) {
  const auto type = GetParam().type;
  for (const std::int64_t head_dim : {8, 20, 32, 64, 72, 80, 128, 256}) {
    for (const Step& step : steps()) {
      for (const auto& [heads, kv_heads] : {std::pair{4, 4}, {12, 2}, {7, 1}}) {
        const Pages pages = make_pages(step.rows, step.lengths, kv_heads, head_dim, type);
        const at::Tensor fused = random({pages.batch.cu_seqlens.back(), heads + 1, head_dim}, type, 7);
        const at::Tensor q = fused.narrow(1, 0, heads);
        const double scale = 1.0 / std::sqrt(head_dim);
        EXPECT_EQ(difference(paged_attention(q, pages.cache, pages.batch, scale),
                             reference::paged_attention(q, pages, scale), tolerance(type)),
                  "")
            << step.name << ", head_dim " << head_dim << ", " << heads << "/" << kv_heads << " heads";
      }
    }
  }
}

TEST_P(AttentionTest, PagedLongDecode) {
  const auto type = GetParam().type;
  const Pages pages = make_pages({1, 2}, {5000, 3001}, 2, 64, type);
  const at::Tensor q = random({3, 8, 64}, type, 7);
  EXPECT_EQ(difference(paged_attention(q, pages.cache, pages.batch, 0.125),
                       reference::paged_attention(q, pages, 0.125), tolerance(type)),
            "");
}

TEST_P(AttentionTest, StoreKvWritesOnlyItsSlots) {
  const auto type = GetParam().type;
  const std::int64_t block_size = cache_block_size(at::kCPU);
  PagedCache cache{at::zeros({3, block_size, 2, 16}, type), at::zeros({3, block_size, 2, 16}, type)};
  PagedBatch batch;
  batch.cu_seqlens = {0, 2};
  batch.lengths = {2};
  batch.block_table = at::zeros({1, 1}, at::kInt);
  batch.slots = at::tensor({2 * block_size + 3, block_size - 1}, at::kLong);
  const at::Tensor kv = random({2, 4, 16}, type, 1);
  store_kv(kv.narrow(1, 0, 2), kv.narrow(1, 2, 2), cache, batch);
  EXPECT_TRUE(cache.keys[2][3].equal(kv[0].narrow(0, 0, 2)));
  EXPECT_TRUE(cache.values[0][block_size - 1].equal(kv[1].narrow(0, 2, 2)));
  EXPECT_EQ(cache.keys.count_nonzero().item<std::int64_t>(), 64);
  EXPECT_EQ(cache.values.count_nonzero().item<std::int64_t>(), 64);
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionTest, all_arithmetic(), arithmetic_name);

}  // namespace
}  // namespace tte::kernels
