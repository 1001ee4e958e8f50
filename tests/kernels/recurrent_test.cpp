// Layers that keep a state: against float64, and the same bits however a sequence is cut and batched.
#include <gtest/gtest.h>

#include "kernels/reference.h"

namespace tte::kernels {
namespace {

using reference::difference;
using reference::random;
using reference::random_delta_inputs;
using reference::rounding;
using reference::rows_of;
using reference::Threads;

class RecurrentTest : public testing::TestWithParam<at::ScalarType> {};

at::Tensor empty_columns(std::int64_t width, const at::Tensor& x) {
  return at::zeros({3, width - 1, x.size(1)}, x.options());
}
at::Tensor empty_memory(const DeltaInputs& in) {
  return at::zeros({3, in.v.size(1), in.k.size(2), in.v.size(2)}, at::kFloat);
}

TEST_P(RecurrentTest, ConvolutionMatchesFloat64) {
  const auto type = GetParam();
  for (const std::int64_t width : {1, 2, 4}) {
    for (const std::int64_t channels : {1, 7, 64, 100}) {
      const at::Tensor x = random({11, channels}, type, 1), weight = random({width, channels}, type, 2);
      at::Tensor columns = empty_columns(width, x);
      EXPECT_EQ(difference(causal_conv_silu(x, weight, columns, {0, 11}, {1}),
                           reference::causal_conv_silu(x, weight),
                           4.0 * rounding(type) + 16.0 * rounding(at::kFloat)),
                "")
          << width << " taps, " << channels << " channels";
      EXPECT_TRUE(columns[1].equal(x.narrow(0, 12 - width, width - 1)));
    }
  }
}

TEST_P(RecurrentTest, DeltaRuleMatchesFloat64) {
  const auto type = GetParam();
  for (const auto& [key_dim, value_dim] : {std::pair{1, 1}, {16, 24}, {7, 40}, {128, 128}}) {
    const DeltaInputs in = random_delta_inputs(70, 2, 4, key_dim, value_dim, type);
    at::Tensor memory = empty_memory(in);
    EXPECT_EQ(difference(gated_delta_rule(in, memory, {0, 70}, {0}), reference::gated_delta_rule(in),
                         1.01 * rounding(type) + 64.0 * rounding(at::kFloat)),
              "")
        << key_dim << " x " << value_dim;
    EXPECT_EQ(memory[1].abs().sum().item<float>(), 0.0F) << "the slot of another sequence";
  }
}

TEST_P(RecurrentTest, ChunksBatchesAndThreadsGiveTheSameBits) {
  const auto type = GetParam();
  const std::int64_t rows = 23;
  const DeltaInputs in = random_delta_inputs(rows, 2, 4, 16, 40, type);
  const at::Tensor x = random({rows, 100}, type, 8), weight = random({4, 100}, type, 9);
  const auto run = [&](std::int64_t begin, std::int64_t count, const std::vector<std::int32_t>& cu_seqlens,
                       const std::vector<std::int64_t>& slots, at::Tensor& columns, at::Tensor& memory) {
    return at::cat({causal_conv_silu(x.narrow(0, begin, count), weight, columns, cu_seqlens, slots),
                    gated_delta_rule(rows_of(in, begin, count), memory, cu_seqlens, slots)},
                   1);
  };
  at::Tensor columns = empty_columns(4, x), memory = empty_memory(in);
  const at::Tensor whole = run(0, rows, {0, rows}, {2}, columns, memory);
  for (const std::int64_t chunk : {1, 2, 3, 10}) {
    const Threads threads(chunk == 10 ? 3 : 1);
    at::Tensor other_columns = empty_columns(4, x), other_memory = empty_memory(in);
    std::vector<at::Tensor> parts;
    for (std::int64_t begin = 0; begin < rows; begin += chunk) {
      const auto count = static_cast<std::int32_t>(std::min(chunk, rows - begin));
      parts.push_back(run(begin, count, {0, count}, {0}, other_columns, other_memory));
    }
    EXPECT_TRUE(at::cat(parts).equal(whole)) << "steps of " << chunk << " rows";
    EXPECT_TRUE(other_memory[0].equal(memory[2]) && other_columns[0].equal(columns[2]));
  }
  // Two sequences side by side: the first five rows, and the others as a sequence of their own.
  at::Tensor both_columns = empty_columns(4, x), both_memory = empty_memory(in);
  at::Tensor own_columns = empty_columns(4, x), own_memory = empty_memory(in);
  const at::Tensor both = run(0, rows, {0, 5, 23}, {1, 0}, both_columns, both_memory);
  const at::Tensor alone = run(5, 18, {0, 18}, {0}, own_columns, own_memory);
  EXPECT_TRUE(both.narrow(0, 0, 5).equal(whole.narrow(0, 0, 5)));
  EXPECT_TRUE(both.narrow(0, 5, 18).equal(alone));
}

TEST_P(RecurrentTest, GatesMatchFloat64) {
  const auto type = GetParam();
  for (const std::int64_t width : {1, 8, 77, 128}) {
    const at::Tensor both = random({5, 3, 2 * width}, type, 1, 4.0);  // [x | gate] of each head.
    const at::Tensor x = both.narrow(2, 0, width), gate = both.narrow(2, width, width);
    for (const Gate kind : {Gate::kSigmoid, Gate::kSilu}) {
      EXPECT_EQ(difference(gated(x, gate, kind), reference::gated(x, gate, kind),
                           2.02 * rounding(type) + 8.0 * rounding(at::kFloat)),
                "")
          << width;
    }
  }
}

TEST_P(RecurrentTest, ShapesThatDoNotFit) {
  const auto type = GetParam();
  const DeltaInputs in = random_delta_inputs(4, 2, 4, 16, 24, type);
  at::Tensor memory = empty_memory(in), wide = at::zeros({3, 4, 16, 25});
  EXPECT_THROW((void)gated_delta_rule(in, wide, {0, 4}, {0}), c10::Error);
  EXPECT_THROW((void)gated_delta_rule(in, memory, {0, 3}, {0}), c10::Error);
  EXPECT_THROW((void)gated_delta_rule(in, memory, {0, 4}, {3}), c10::Error);
  const at::Tensor x = random({4, 8}, type, 1);
  at::Tensor columns = empty_columns(4, x);
  EXPECT_THROW((void)causal_conv_silu(x, random({3, 8}, type, 1), columns, {0, 4}, {0}), c10::Error);
  EXPECT_THROW((void)gated(x, x.narrow(1, 0, 4), Gate::kSilu), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(Types, RecurrentTest, testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace tte::kernels
