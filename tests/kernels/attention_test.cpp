#include <gtest/gtest.h>

#include <cmath>

#include "kernels/reference.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::random;
using reference::rounding;

class AttentionTest : public testing::TestWithParam<at::ScalarType> {};

// The result is a mean of standard normal values. Kernels of two-byte types may round the weights to their
// type.
double tolerance(at::ScalarType type) {
  return type == at::kFloat ? 32.0 * rounding(at::kFloat) : 3.0 * rounding(type);
}

at::Tensor expected_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale) {
  std::vector<at::Tensor> parts{at::empty({0, q.size(1) * q.size(2)}, at::kDouble)};
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const std::int64_t begin = cu_seqlens[i], rows = cu_seqlens[i + 1] - begin;
    if (rows == 0) continue;
    parts.push_back(reference::attention(q.narrow(0, begin, rows), k.narrow(0, begin, rows),
                                         v.narrow(0, begin, rows), causal, scale));
  }
  return at::cat(parts);
}

TEST_P(AttentionTest, RaggedBatchMatchesFloat64) {
  const auto type = GetParam();
  const std::vector<std::vector<std::int32_t>> batches{{0},          {0, 0},          {0, 1},
                                                       {0, 2, 2, 5}, {0, 17, 18, 82}, {0, 300}};
  for (const std::int64_t head_dim : {8, 32, 40, 64, 72, 80, 128, 256, 20}) {
    for (const auto& cu_seqlens : batches) {
      const std::int64_t rows = cu_seqlens.back();
      const at::Tensor qkv = random({rows, 8, head_dim}, type, 1);
      const at::Tensor q = qkv.narrow(1, 0, 4), k = qkv.narrow(1, 4, 2), v = qkv.narrow(1, 6, 2);
      for (const bool causal : {false, true}) {
        const double scale = 1.0 / std::sqrt(head_dim);
        EXPECT_EQ(difference(attention(q, k, v, cu_seqlens, causal, scale),
                             expected_attention(q, k, v, cu_seqlens, causal, scale), tolerance(type)),
                  "")
            << rows << " rows, head_dim " << head_dim << (causal ? ", causal" : "");
      }
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  const auto type = GetParam();
  const at::Tensor q = random({70, 2, 64}, type, 1, 20.0), k = random({70, 2, 64}, type, 2, 20.0);
  const at::Tensor v = random({70, 2, 64}, type, 3);
  EXPECT_EQ(difference(
                attention(q, k, v, {0, 70}, true, 0.125), expected_attention(q, k, v, {0, 70}, true, 0.125),
                type == at::kFloat ? 2e-4 : tolerance(type)),  // Scores are about 1000: exp(x) loses 10 bits.
            "");
}

// A cache whose blocks are handed out in a scrambled order, and the tokens of each sequence as plain tensors.
struct Pages {
  PagedCache cache;
  PagedBatch batch;
  std::vector<at::Tensor> keys, values;  // By sequence, [length, kv_heads, head_dim].
};

// `rows[i]` new rows of a sequence with `lengths[i]` tokens. Stores every token through store_kv: the older
// ones in a step of their own. Unused slots hold NaN: a kernel that reads past a sequence's end shows it.
Pages make_pages(const std::vector<std::int32_t>& rows, const std::vector<std::int32_t>& lengths,
                 std::int64_t kv_heads, std::int64_t head_dim, at::ScalarType type) {
  const std::int64_t block_size = cache_block_size(at::kCPU);
  const auto sequences = static_cast<std::int64_t>(lengths.size());
  std::int64_t most = 1, total = 0;
  for (const std::int32_t length : lengths) {
    const std::int64_t blocks = (length + block_size - 1) / block_size;
    most = std::max(most, blocks);
    total += blocks;
  }
  Pages pages;
  pages.cache.keys = at::full({total + 2, block_size, kv_heads, head_dim}, NAN, type);
  pages.cache.values = pages.cache.keys.clone();
  pages.batch.block_table = at::zeros({sequences, most}, at::kInt);
  PagedBatch earlier;
  earlier.cu_seqlens = pages.batch.cu_seqlens = {0};
  std::vector<std::int64_t> new_slots, old_slots;
  std::vector<at::Tensor> new_keys, new_values, old_keys, old_values;
  std::int64_t next = total + 1;  // Blocks from the last to the first.
  for (std::int64_t i = 0; i < sequences; ++i) {
    const std::int64_t length = lengths[i], old = length - rows[i];
    for (std::int64_t b = 0; b * block_size < length; ++b) {
      pages.batch.block_table[i][b] = next--;
    }
    for (std::int64_t p = 0; p < length; ++p) {
      const std::int64_t block = pages.batch.block_table[i][p / block_size].item<std::int64_t>();
      (p < old ? old_slots : new_slots).push_back(block * block_size + p % block_size);
    }
    const at::Tensor kv = random({length, 2 * kv_heads, head_dim}, type, 100 + i);
    pages.keys.push_back(kv.narrow(1, 0, kv_heads));
    pages.values.push_back(kv.narrow(1, kv_heads, kv_heads));
    old_keys.push_back(pages.keys.back().narrow(0, 0, old));
    old_values.push_back(pages.values.back().narrow(0, 0, old));
    new_keys.push_back(pages.keys.back().narrow(0, old, rows[i]));
    new_values.push_back(pages.values.back().narrow(0, old, rows[i]));
    earlier.cu_seqlens.push_back(static_cast<std::int32_t>(old_slots.size()));
    earlier.lengths.push_back(static_cast<std::int32_t>(old));
    pages.batch.cu_seqlens.push_back(static_cast<std::int32_t>(new_slots.size()));
    pages.batch.lengths.push_back(lengths[i]);
  }
  earlier.block_table = pages.batch.block_table;
  earlier.slots = at::tensor(old_slots, at::kLong);
  pages.batch.slots = at::tensor(new_slots, at::kLong);
  store_kv(at::cat(old_keys), at::cat(old_values), pages.cache, earlier);
  store_kv(at::cat(new_keys), at::cat(new_values), pages.cache, pages.batch);
  return pages;
}

at::Tensor expected_paged(const at::Tensor& q, const Pages& pages, double scale) {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < pages.keys.size(); ++i) {
    const std::int64_t begin = pages.batch.cu_seqlens[i], rows = pages.batch.cu_seqlens[i + 1] - begin;
    if (rows > 0) {
      parts.push_back(
          reference::attention(q.narrow(0, begin, rows), pages.keys[i], pages.values[i], true, scale));
    }
  }
  return at::cat(parts);
}

struct Step {
  const char* name;
  std::vector<std::int32_t> rows, lengths;
};

const std::vector<Step>& steps() {
  static const std::vector<Step> kSteps{
      {"one token", {1}, {1}},
      {"decode", {1, 1, 1}, {600, 1, 65}},
      {"block boundaries", {1, 1, 1, 1, 1}, {63, 64, 65, 127, 128}},
      {"prefill", {300}, {300}},
      {"chunked prefill", {70}, {300}},
      {"mixed", {1, 64, 3, 0, 17, 1}, {129, 64, 67, 40, 200, 7}},
  };
  return kSteps;
}

TEST_P(AttentionTest, PagedMatchesFloat64) {
  const auto type = GetParam();
  for (const std::int64_t head_dim : {8, 20, 32, 64, 72, 80, 128, 256}) {
    for (const Step& step : steps()) {
      for (const auto& [heads, kv_heads] : {std::pair{4, 4}, {12, 2}, {7, 1}}) {
        const Pages pages = make_pages(step.rows, step.lengths, kv_heads, head_dim, type);
        const at::Tensor fused = random({pages.batch.cu_seqlens.back(), heads + 1, head_dim}, type, 7);
        const at::Tensor q = fused.narrow(1, 0, heads);
        const double scale = 1.0 / std::sqrt(head_dim);
        EXPECT_EQ(difference(paged_attention(q, pages.cache, pages.batch, scale),
                             expected_paged(q, pages, scale), tolerance(type)),
                  "")
            << step.name << ", head_dim " << head_dim << ", " << heads << "/" << kv_heads << " heads";
      }
    }
  }
}

TEST_P(AttentionTest, PagedLongDecode) {
  const auto type = GetParam();
  const Pages pages = make_pages({1, 2}, {5000, 3001}, 2, 64, type);
  const at::Tensor q = random({3, 8, 64}, type, 7);
  EXPECT_EQ(difference(paged_attention(q, pages.cache, pages.batch, 0.125), expected_paged(q, pages, 0.125),
                       tolerance(type)),
            "");
}

TEST_P(AttentionTest, StoreKvWritesOnlyItsSlots) {
  const auto type = GetParam();
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

INSTANTIATE_TEST_SUITE_P(Types, AttentionTest, testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace tte::kernels
