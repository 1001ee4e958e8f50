// A row's result has the same bits whatever stands beside it in the batch, and for any number of threads.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/arithmetic.h"
#include "kernels/cpu/linear.h"
#include "kernels/pages.h"

namespace tte::kernels {
namespace {

using reference::make_pages;
using reference::Pages;
using reference::random;
using reference::Threads;

// Tests our own kernels: what oneDNN computes instead on some processors is exempt.
class InvarianceTest : public ArithmeticTest {
 protected:
  InvarianceTest() { cpu::choose_products(cpu::Products::kOwn); }
  ~InvarianceTest() override { cpu::choose_products(cpu::Products::kByProcessor); }
};

TEST_P(InvarianceTest, LinearRowsDoNotDependOnTheBatch) {
  const auto type = GetParam().type;
  for (const auto& [in, out] : {std::pair{1536, 200}, {2600, 72}, {77, 13}}) {
    const at::Tensor x = random({300, in}, type, 1), weight = random({out, in}, type, 2);
    const at::Tensor bias = random({out}, type, 3);
    const at::Tensor together = kernels::linear(x, weight, bias), logits = kernels::linear_float(x, weight);
    for (const std::int64_t count : {1, 2, 3, 5, 8, 13, 64, 257}) {
      const std::int64_t begin = (x.size(0) - count) / 2;
      EXPECT_TRUE(
          kernels::linear(x.narrow(0, begin, count), weight, bias).equal(together.narrow(0, begin, count)))
          << count << " rows, " << in << " -> " << out;
      EXPECT_TRUE(
          kernels::linear_float(x.narrow(0, begin, count), weight).equal(logits.narrow(0, begin, count)))
          << "linear_float, " << count << " rows, " << in << " -> " << out;
    }
  }
}

TEST_P(InvarianceTest, SequencesDoNotDependOnTheBatch) {
  const auto type = GetParam().type;
  const std::vector<std::int32_t> cu_seqlens{0, 1, 65, 65, 400, 530};
  for (const std::int64_t head_dim : {64, 80}) {
    const at::Tensor qkv = random({cu_seqlens.back(), 8, head_dim}, type, 1);
    const at::Tensor q = qkv.narrow(1, 0, 4), k = qkv.narrow(1, 4, 2), v = qkv.narrow(1, 6, 2);
    for (const bool causal : {false, true}) {
      const at::Tensor together = attention(q, k, v, cu_seqlens, causal, 0.125);
      for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
        const std::int32_t begin = cu_seqlens[i], rows = cu_seqlens[i + 1] - begin;
        const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, rows); };
        EXPECT_TRUE(attention(part(q), part(k), part(v), {0, rows}, causal, 0.125).equal(part(together)))
            << "sequence " << i << ", head_dim " << head_dim << (causal ? ", causal" : "");
      }
    }
  }
}

TEST_P(InvarianceTest, PrefillInChunksAndTokenByTokenGiveTheSameBits) {
  const auto type = GetParam().type;
  for (const std::int64_t head_dim : {72, 128}) {
    constexpr std::int32_t kLength = 700;
    const Pages whole = make_pages({kLength}, {kLength}, 2, head_dim, type);
    const at::Tensor q = random({kLength, 6, head_dim}, type, 7);
    const at::Tensor together = paged_attention(q, whole.cache, whole.batch, 0.1);
    for (const auto& [begin, rows] : {std::pair{0, 1}, {255, 2}, {256, 1}, {300, 64}, {699, 1}, {500, 200}}) {
      PagedBatch step = whole.batch;
      step.cu_seqlens = {0, rows};
      step.lengths = {begin + rows};
      step.slots = whole.batch.slots.narrow(0, begin, rows);
      EXPECT_TRUE(paged_attention(q.narrow(0, begin, rows), whole.cache, step, 0.1)
                      .equal(together.narrow(0, begin, rows)))
          << "rows " << begin << " to " << begin + rows << ", head_dim " << head_dim;
    }
  }
}

TEST_P(InvarianceTest, ThreadsDoNotMatter) {
  const auto type = GetParam().type;
  const at::Tensor x = random({100, 1536}, type, 1), weight = random({300, 1536}, type, 2);
  const at::Tensor scale = random({1536}, type, 3), qkv = random({530, 8, 64}, type, 4);
  const Pages pages = make_pages({1, 70, 1}, {1000, 200, 64}, 2, 64, type);
  const at::Tensor q = random({72, 8, 64}, type, 5);
  const auto all = [&] {
    at::Tensor rotated = qkv.clone();
    const at::Tensor angles = random({530, 64}, at::kFloat, 6);
    rope_(rotated, angles.cos(), angles.sin());
    return std::vector<at::Tensor>{
        kernels::linear(x, weight, {}),
        kernels::linear_float(x, weight),
        kernels::rms_norm(x, scale, 1e-6),
        kernels::layer_norm(x, scale, scale, 1e-6),
        silu_mul(x),
        activate(x, Activation::kQuickGelu),
        activate(x, Activation::kGelu),
        rotated,
        attention(qkv.narrow(1, 0, 4), qkv.narrow(1, 4, 2), qkv.narrow(1, 6, 2), {0, 530}, false, 0.125),
        paged_attention(q, pages.cache, pages.batch, 0.125),
    };
  };
  std::vector<at::Tensor> alone;
  {
    const Threads one(1);
    alone = all();
  }
  for (const int count : {2, 3}) {
    const Threads threads(count);
    const std::vector<at::Tensor> results = all();
    for (std::size_t i = 0; i < results.size(); ++i) {
      EXPECT_TRUE(results[i].equal(alone[i])) << "operation " << i << " with " << count << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, InvarianceTest, all_arithmetic(), arithmetic_name);

}  // namespace
}  // namespace tte::kernels
