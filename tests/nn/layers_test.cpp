// Layers read from a checkpoint: each against the same formula written out.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "expect_error.h"
#include "nn/attention.h"
#include "nn/decoder_layer.h"
#include "nn/experts.h"
#include "nn/kv_cache.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "nn/tensor_parallel.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::nn {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

// A float32 checkpoint of random tensors, seeded.
class Checkpoint {
 public:
  Checkpoint() : generator_(at::detail::createCPUGenerator(7)) {}

  at::Tensor& operator[](const std::string& name) { return tensors_[name]; }
  void add(const std::string& name, at::IntArrayRef shape) {
    tensors_[name] = at::randn(shape, generator_, at::kFloat) * 0.4;
  }
  [[nodiscard]] at::Tensor input(std::int64_t rows, std::int64_t size) {
    return at::randn({rows, size}, generator_, at::kFloat);
  }
  // x W^T + b of what was added as `name`.
  [[nodiscard]] at::Tensor apply(const std::string& name, const at::Tensor& x) const {
    at::Tensor y = x.matmul(tensors_.at(name + ".weight").t());
    const auto bias = tensors_.find(name + ".bias");
    return bias == tensors_.end() ? y : y + bias->second;
  }
  [[nodiscard]] weights::StateDict open(const weights::Placement& placement = {}) const {
    base::Json header;
    std::string data;
    for (const auto& [name, tensor] : tensors_) {
      const std::size_t begin = data.size();
      data.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
      header[name] = {
          {"dtype", "F32"}, {"shape", tensor.sizes().vec()}, {"data_offsets", {begin, data.size()}}};
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    const std::uint64_t size = text.size();
    const std::string length(reinterpret_cast<const char*>(&size), sizeof size);
    return weights::StateDict::open(folder_.write("model.safetensors", length + text + data), placement);
  }

 private:
  at::Generator generator_;
  std::map<std::string, at::Tensor> tensors_;
  testing::TempDir folder_;
};

void expect_close(const at::Tensor& a, const at::Tensor& b) {
  ASSERT_EQ(a.sizes(), b.sizes());
  EXPECT_LT((a - b).abs().max().item<double>(), 1e-5);
}

TEST(Linear, TheBiasExistsIfTheCheckpointHasOne) {
  Checkpoint checkpoint;
  checkpoint.add("a.weight", {5, 8});
  checkpoint.add("b.weight", {5, 8});
  checkpoint.add("b.bias", {5});
  const auto weights = checkpoint.open();
  const at::Tensor x = checkpoint.input(3, 8);
  expect_close(Linear(weights, "a", 8, 5)(x), checkpoint.apply("a", x));
  expect_close(Linear(weights, "b", 8, 5)(x), checkpoint.apply("b", x));
  weights.check_all_used();
}

TEST(Linear, StackedIsSeveralAtOnce) {
  Checkpoint checkpoint;
  for (const char* name : {"q", "k"}) {
    checkpoint.add(std::string(name) + ".weight", {name[0] == 'q' ? 6 : 2, 8});
    checkpoint.add(std::string(name) + ".bias", {name[0] == 'q' ? 6 : 2});
  }
  const at::Tensor x = checkpoint.input(3, 8);
  const Linear stacked = Linear::stacked(checkpoint.open(), {"q", "k"}, 8, {6, 2});
  expect_close(stacked(x), at::cat({checkpoint.apply("q", x), checkpoint.apply("k", x)}, 1));
  expect_close(stacked.outputs(6, 2)(x), checkpoint.apply("k", x));
}

TEST(Linear, SomeBiasesAreAnError) {
  Checkpoint checkpoint;
  checkpoint.add("q.weight", {6, 8});
  checkpoint.add("q.bias", {6});
  checkpoint.add("k.weight", {2, 8});
  EXPECT_THAT(message_of<ModelError>([&] {
                (void)Linear::stacked(checkpoint.open(), {"q", "k"}, 8, {6, 2});
              }),
              AllOf(HasSubstr("q.bias"), HasSubstr("no k.bias")));
}

TEST(RmsNorm, AddsTheDeltaFirst) {
  Checkpoint checkpoint;
  checkpoint.add("n.weight", {8});
  const RmsNorm norm(checkpoint.open(), "n", 8, {.eps = 1e-6});
  at::Tensor residual = checkpoint.input(3, 8);
  const at::Tensor delta = checkpoint.input(3, 8), sum = residual + delta;
  const at::Tensor expected = sum * (sum.square().mean(-1, true) + 1e-6).rsqrt() * checkpoint["n.weight"];
  expect_close(norm(sum), expected);
  expect_close(norm.add(residual, delta), expected);
  expect_close(residual, sum);
}

TEST(LayerNorm, NormalisesTheLastDimension) {
  Checkpoint checkpoint;
  checkpoint.add("n.weight", {8});
  checkpoint.add("n.bias", {8});
  const at::Tensor x = checkpoint.input(3, 8);
  expect_close(LayerNorm(checkpoint.open(), "n", 8, 1e-6)(x),
               at::layer_norm(x, {8}, checkpoint["n.weight"], checkpoint["n.bias"], 1e-6));
}

TEST(Mlp, GatedAndPlain) {
  Checkpoint checkpoint;
  checkpoint.add("gate_proj.weight", {6, 8});
  checkpoint.add("up_proj.weight", {6, 8});
  checkpoint.add("down_proj.weight", {8, 6});
  for (const char* name : {"fc1", "fc2"}) {
    const bool first = name[2] == '1';
    checkpoint.add(std::string(name) + ".weight", {first ? 6 : 4, first ? 8 : 6});
    checkpoint.add(std::string(name) + ".bias", {first ? 6 : 4});
  }
  const auto weights = checkpoint.open();
  const at::Tensor x = checkpoint.input(3, 8);
  expect_close(GatedMlp(weights, 8, 6)(x),
               checkpoint.apply("down_proj",
                                at::silu(checkpoint.apply("gate_proj", x)) * checkpoint.apply("up_proj", x)));
  const at::Tensor first = checkpoint.apply("fc1", x);
  expect_close(Mlp(weights, "fc1", "fc2", 8, 6, 4, kernels::Activation::kQuickGelu)(x),
               checkpoint.apply("fc2", first * at::sigmoid(1.702 * first)));
  expect_close(Mlp(weights, "fc1", "fc2", 8, 6, 4, kernels::Activation::kGelu)(x),
               checkpoint.apply("fc2", at::gelu(first)));
}

// A decoder layer of 4 heads over 2 key heads of size 4, and everything that it reads.
// With a norm of queries and keys, or without.
class DecoderLayerTest : public ::testing::TestWithParam<bool> {
 protected:
  DecoderLayerTest() {
    for (const char* name : {"q", "k", "v"}) {
      const std::int64_t out = name[0] == 'q' ? 16 : 8;
      checkpoint_.add(std::string("self_attn.") + name + "_proj.weight", {out, 16});
      checkpoint_.add(std::string("self_attn.") + name + "_proj.bias", {out});
    }
    checkpoint_.add("self_attn.o_proj.weight", {16, 16});
    if (GetParam()) {
      shape_.qk_norm = RmsNormOptions{1e-5, kernels::NormScale::kOnePlusWeight};
      checkpoint_.add("self_attn.q_norm.weight", {4});
      checkpoint_.add("self_attn.k_norm.weight", {4});
    }
    checkpoint_.add("mlp.gate_proj.weight", {24, 16});
    checkpoint_.add("mlp.up_proj.weight", {24, 16});
    checkpoint_.add("mlp.down_proj.weight", {16, 24});
    checkpoint_.add("input_layernorm.weight", {16});
    checkpoint_.add("post_attention_layernorm.weight", {16});
    layer_ = std::make_unique<DecoderLayer>(
        checkpoint_.open(), std::make_unique<Attention>(checkpoint_.open().select("self_attn."), shape_, 0),
        mlp(), 16, RmsNormOptions{.eps = 1e-6});
    pool_ = KvPool::create({1, 2, 4, at::kFloat}, 1 << 20);
  }

  std::unique_ptr<const FeedForward> mlp() const {
    return std::make_unique<GatedMlp>(checkpoint_.open().select("mlp."), 16, 24);
  }

  // x [rows, 16] of one fresh sequence, written out with a mask.
  at::Tensor expected(const at::Tensor& x) const {
    const auto norm = [&](const at::Tensor& y, const char* name) {
      return y * (y.square().mean(-1, true) + 1e-6).rsqrt() * const_cast<Checkpoint&>(checkpoint_)[name];
    };
    const auto heads = [&](const char* name, const at::Tensor& y, bool rotate) {
      at::Tensor h = checkpoint_.apply(name, y).view({y.size(0), -1, 4});
      if (rotate && GetParam()) {
        const at::Tensor& weight =
            const_cast<Checkpoint&>(checkpoint_)[std::string(name).substr(0, 11) + "_norm.weight"];
        h = h * (h.square().mean(-1, true) + 1e-5).rsqrt() * (1 + weight);
      }
      if (rotate) {
        const RopeTable table = rope_.table(at::arange(y.size(0), at::kLong).unsqueeze(0), at::kFloat);
        const at::Tensor turned = at::cat({-h.narrow(2, 2, 2), h.narrow(2, 0, 2)}, 2);
        h = h * table.cos.unsqueeze(1) + turned * table.sin.unsqueeze(1);
      }
      return h.size(1) == 4 ? h : h.repeat_interleave(2, 1);
    };
    const at::Tensor y = norm(x, "input_layernorm.weight");
    const at::Tensor q = heads("self_attn.q_proj", y, true), k = heads("self_attn.k_proj", y, true);
    const at::Tensor v = heads("self_attn.v_proj", y, false);
    at::Tensor scores = at::einsum("qhd,khd->hqk", {q, k}) / 2.0;
    const at::Tensor future = at::ones({x.size(0), x.size(0)}, at::kBool).triu(1);
    const at::Tensor attended =
        at::einsum("hqk,khd->qhd", {scores.masked_fill(future, -INFINITY).softmax(-1), v});
    const at::Tensor h = x + checkpoint_.apply("self_attn.o_proj", attended.reshape({x.size(0), 16}));
    const at::Tensor z = norm(h, "post_attention_layernorm.weight");
    return h + checkpoint_.apply("mlp.down_proj", at::silu(checkpoint_.apply("mlp.gate_proj", z)) *
                                                      checkpoint_.apply("mlp.up_proj", z));
  }

  Step step(KvState& state, std::int64_t tokens) const {
    const at::Tensor positions = (at::arange(tokens, at::kLong) + state.length()).unsqueeze(0);
    const std::array<KvState*, 1> states = {&state};
    const std::array<std::int64_t, 1> count = {tokens};
    return {rope_.table(positions, at::kFloat), page(states, count, *pool_), pool_->caches(), {}};
  }

  Checkpoint checkpoint_;
  AttentionShape shape_{16, 4, 2, 4, {}};
  Rope rope_ = Rope::text(4, 100.0, {0, 0});
  std::unique_ptr<DecoderLayer> layer_;
  std::shared_ptr<KvPool> pool_;
};

TEST_P(DecoderLayerTest, EqualsTheFormula) {
  const at::Tensor x = checkpoint_.input(7, 16);
  const auto state = pool_->start(7);
  at::Tensor residual = x.clone();
  const at::Tensor delta = (*layer_)(residual, {}, step(*state, 7));
  expect_close(residual + delta, expected(x));
}

TEST_P(DecoderLayerTest, ADeltaIsAddedFirst) {
  const at::Tensor x = checkpoint_.input(7, 16), half = checkpoint_.input(7, 16);
  const auto state = pool_->start(7);
  at::Tensor residual = x - half;
  const at::Tensor delta = (*layer_)(residual, half, step(*state, 7));
  expect_close(residual + delta, expected(x));
}

// A recurrence: every token adds itself to half of what its sequence has kept in its slot.
class Halving : public Mixer {
 public:
  explicit Halving(at::Tensor kept) : kept_(std::move(kept)) {}
  at::Tensor mix(const at::Tensor& x, const Step& step) const override {
    at::Tensor out = at::empty_like(x);
    for (std::size_t i = 0; i < step.slots.size(); ++i) {
      at::Tensor kept = kept_[step.slots[i]];
      for (std::int64_t row = step.batch.cu_seqlens[i]; row < step.batch.cu_seqlens[i + 1]; ++row) {
        kept.mul_(0.5).add_(x[row]);
        out[row].copy_(kept);
      }
    }
    return out;
  }
  at::Tensor mix_selected(const at::Tensor& x, const Step& step, const Selection& selection) const override {
    return mix(x, step).index_select(0, selection.rows);
  }

 private:
  at::Tensor kept_;  // [slots, hidden]
};

TEST_P(DecoderLayerTest, TakesAnyMixer) {
  const at::Tensor kept = at::zeros({3, 16});
  const DecoderLayer layer(checkpoint_.open(), std::make_unique<Halving>(kept), mlp(), 16,
                           RmsNormOptions{.eps = 1e-6});
  const at::Tensor x = checkpoint_.input(5, 16), other = checkpoint_.input(2, 16);
  const auto run = [&](const at::Tensor& rows, std::vector<std::int32_t> cu_seqlens,
                       std::vector<std::int64_t> slots) {
    Step step;
    step.batch.cu_seqlens = std::move(cu_seqlens);
    step.slots = std::move(slots);
    at::Tensor residual = rows.clone();
    const at::Tensor delta = layer(residual, {}, step);
    return residual + delta;
  };
  const at::Tensor whole = run(x, {0, 5}, {0});
  const at::Tensor first = run(at::cat({other, x.narrow(0, 0, 3)}), {0, 2, 5}, {2, 1});
  const at::Tensor rest = run(x.narrow(0, 3, 2), {0, 2}, {1});
  expect_close(at::cat({first.narrow(0, 2, 3), rest}), whole);
}

TEST_P(DecoderLayerTest, SelectedRowsAreRowsOfTheWhole) {
  const at::Tensor x = checkpoint_.input(7, 16);
  const std::vector<std::int64_t> rows = {2, 6};
  const auto state = pool_->start(7);
  const Step whole = step(*state, 7);
  const at::Tensor index = at::tensor(rows, at::kLong);
  const Selection selection{index,
                            {whole.rope.select(index), select_rows(whole.batch, rows), whole.caches, {}}};
  at::Tensor residual = x.clone();
  const at::Tensor delta = (*layer_)(residual, {}, whole, selection);
  expect_close(residual + delta, expected(x).index_select(0, index));

  // The rows that nobody read are stored all the same: the next token sees them.
  state->advance(7);
  const at::Tensor longer = at::cat({x, checkpoint_.input(1, 16)});
  at::Tensor next = longer.narrow(0, 7, 1).clone();
  const at::Tensor next_delta = (*layer_)(next, {}, step(*state, 1));
  expect_close(next + next_delta, expected(longer).narrow(0, 7, 1));
}

// Two devices that are both the processor; each has two heads, over one key head, and half of the MLP.
TEST_P(DecoderLayerTest, DevicesShareIt) {
  checkpoint_.add("self_attn.o_proj.bias", {16});
  checkpoint_.add("mlp.down_proj.bias", {16});
  const auto weights = checkpoint_.open({.further = {at::kCPU}});
  const DecoderLayer layer(
      weights, std::make_unique<TensorParallelAttention>(weights.select("self_attn."), shape_, 0),
      std::make_unique<TensorParallelMlp>(weights.select("mlp."), 16, 24), 16, RmsNormOptions{.eps = 1e-6});
  EXPECT_NO_THROW(weights.check_all_used());
  pool_ = KvPool::create({1, 2, 4, at::kFloat, weights.devices()}, 1 << 20);
  EXPECT_EQ(pool_->caches(1)[0].keys.size(2), 1);
  const auto shared = [&](KvState& state, std::int64_t tokens) {
    Step first = step(state, tokens);
    first.further = further_steps(first, *pool_);
    return first;
  };
  const at::Tensor x = checkpoint_.input(8, 16);
  const auto state = pool_->start(8);
  at::Tensor residual = x.narrow(0, 0, 5).clone();
  const at::Tensor delta = layer(residual, {}, shared(*state, 5));
  expect_close(residual + delta, expected(x.narrow(0, 0, 5)));
  state->advance(5);

  const std::vector<std::int64_t> rows = {2};
  const Step whole = shared(*state, 3);
  const at::Tensor index = at::tensor(rows, at::kLong);
  const auto select = [&](const Step& on) {
    return Selection{index, {on.rope.select(index), select_rows(on.batch, rows), on.caches}};
  };
  Selection selection = select(whole);
  selection.further = {select(whole.further.at(0))};
  residual = x.narrow(0, 5, 3).clone();
  const at::Tensor last = layer(residual, {}, whole, selection);
  expect_close(residual + last, expected(x).narrow(0, 7, 1));
}

// A device without memory stands for another one than the processor.
TEST_P(DecoderLayerTest, AFurtherDeviceHasWhatItReads) {
  pool_ = KvPool::create({1, 2, 4, at::kFloat, {at::kCPU, at::kMeta}}, 1 << 20);
  const auto state = pool_->start(5);
  const Step first = step(*state, 5);
  const std::vector<Step> further = further_steps(first, *pool_);
  ASSERT_EQ(further.size(), 1U);
  const Step& there = further.front();
  ASSERT_EQ(there.caches.size(), 1U);
  for (const at::Tensor& tensor : {there.rope.cos, there.rope.sin, there.batch.block_table, there.batch.slots,
                                   there.caches[0].keys, there.caches[0].values})
    EXPECT_TRUE(tensor.is_meta());
  EXPECT_EQ(there.batch.cu_seqlens, first.batch.cu_seqlens);
  EXPECT_EQ(there.batch.lengths, first.batch.lengths);
  EXPECT_TRUE(first.batch.slots.is_cpu());
}

// One head of 8 dimensions, the first 4 of which are rotated; q_proj has its gate behind its queries.
TEST(Attention, GatesAHeadAndRotatesItsBeginning) {
  Checkpoint checkpoint;
  checkpoint.add("q_proj.weight", {16, 12});
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) checkpoint.add(name, {8, 12});
  checkpoint.add("o_proj.weight", {12, 8});
  AttentionShape shape{12, 1, 1, 8};
  shape.gated = true;
  const Attention attention(checkpoint.open(), shape, 0);
  const auto pool = KvPool::create({1, 1, 8, at::kFloat}, 1 << 20);
  const Rope rope = Rope::text(4, 100.0, {0, 0});
  const at::Tensor x = checkpoint.input(5, 12);
  const auto state = pool->start(5);
  const std::array<KvState*, 1> states = {state.get()};
  const std::array<std::int64_t, 1> count = {5};
  const Step step{rope.table(at::arange(5, at::kLong).unsqueeze(0), at::kFloat), page(states, count, *pool),
                  pool->caches()};

  const auto rotated = [&](const at::Tensor& h) {
    const at::Tensor turned = at::cat({-h.narrow(1, 2, 2), h.narrow(1, 0, 2)}, 1);
    return at::cat({h.narrow(1, 0, 4) * step.rope.cos + turned * step.rope.sin, h.narrow(1, 4, 4)}, 1);
  };
  const at::Tensor both = checkpoint.apply("q_proj", x);
  const at::Tensor q = rotated(both.narrow(1, 0, 8)), k = rotated(checkpoint.apply("k_proj", x));
  const at::Tensor future = at::ones({5, 5}, at::kBool).triu(1);
  const at::Tensor scores = (q.matmul(k.t()) / std::sqrt(8.0)).masked_fill(future, -INFINITY);
  const at::Tensor attended = scores.softmax(-1).matmul(checkpoint.apply("v_proj", x));
  const at::Tensor expected = checkpoint.apply("o_proj", attended * both.narrow(1, 8, 8).sigmoid());
  expect_close(attention.mix(x, step), expected);

  const std::vector<std::int64_t> rows = {1, 4};
  const at::Tensor index = at::tensor(rows, at::kLong);
  const Selection selection{index, {step.rope.select(index), select_rows(step.batch, rows), step.caches}};
  expect_close(attention.mix_selected(x, step, selection), expected.index_select(0, index));
}

// Two sequences of one step: each row sees all rows of its own.
TEST(Attention, SeesBothWaysWhereAsked) {
  Checkpoint checkpoint;
  checkpoint.add("q_proj.weight", {8, 12});
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) checkpoint.add(name, {4, 12});
  checkpoint.add("o_proj.weight", {12, 8});
  AttentionShape shape{12, 2, 1, 4};
  shape.bidirectional = true;
  const Attention attention(checkpoint.open(), shape, 0);
  const Rope rope = Rope::text(4, 100.0, {0, 0});
  const at::Tensor x = checkpoint.input(7, 12);
  Step step;
  step.rope = rope.table(at::zeros({1, 7}, at::kLong), at::kFloat);  // Nothing is turned.
  step.batch.cu_seqlens = {0, 3, 7};
  std::vector<at::Tensor> expected;
  for (const auto& [begin, count] : {std::pair{0, 3}, std::pair{3, 4}}) {
    const at::Tensor own = x.narrow(0, begin, count);
    const at::Tensor k = checkpoint.apply("k_proj", own), v = checkpoint.apply("v_proj", own);
    std::vector<at::Tensor> heads;
    for (const at::Tensor& q : checkpoint.apply("q_proj", own).chunk(2, 1))
      heads.push_back((q.matmul(k.t()) / 2.0).softmax(-1).matmul(v));
    expected.push_back(checkpoint.apply("o_proj", at::cat(heads, 1)));
  }
  expect_close(attention.mix(x, step), at::cat(expected));
  const at::Tensor index = at::tensor({2, 5}, at::kLong);
  expect_close(attention.mix_selected(x, step, {index, {}}), at::cat(expected).index_select(0, index));
}

// Five experts, two for each row, and one for all rows.
class ExpertsTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t kExperts = 5;
  ExpertsTest() {
    checkpoint_.add("gate.weight", {kExperts, 8});
    for (std::int64_t i = 0; i < kExperts; ++i) {
      checkpoint_.add(name(i, "gate_proj"), {6, 8});
      checkpoint_.add(name(i, "up_proj"), {6, 8});
      checkpoint_.add(name(i, "down_proj"), {8, 6});
    }
    for (const char* part : {"gate_proj", "up_proj"})
      checkpoint_.add(std::string("shared_expert.") + part + ".weight", {4, 8});
    checkpoint_.add("shared_expert.down_proj.weight", {8, 4});
    checkpoint_.add("shared_expert_gate.weight", {1, 8});
  }
  static std::string name(std::int64_t i, const std::string& part) {
    return "experts." + std::to_string(i) + "." + part + ".weight";
  }
  at::Tensor through(const std::string& expert, const at::Tensor& x) {
    return checkpoint_.apply(expert + "down_proj", at::silu(checkpoint_.apply(expert + "gate_proj", x)) *
                                                       checkpoint_.apply(expert + "up_proj", x));
  }
  at::Tensor expected(const at::Tensor& x, bool shared) {
    at::Tensor out = at::zeros_like(x);
    for (std::int64_t row = 0; row < x.size(0); ++row) {
      const at::Tensor one = x.narrow(0, row, 1);
      auto [shares, chosen] = at::topk(checkpoint_.apply("gate", one).softmax(-1), 2);
      shares = shares / shares.sum();
      for (int k = 0; k < 2; ++k) {
        const std::string expert = "experts." + std::to_string(chosen[0][k].item<std::int64_t>()) + ".";
        out.narrow(0, row, 1) += through(expert, one) * shares[0][k];
      }
    }
    if (!shared) return out;
    return out + through("shared_expert.", x) * checkpoint_.apply("shared_expert_gate", x).sigmoid();
  }
  Checkpoint checkpoint_;
};

TEST_F(ExpertsTest, AreSummedByTheirShares) {
  const at::Tensor x = checkpoint_.input(9, 8);
  const auto weights = checkpoint_.open();
  expect_close(Experts(weights, {8, kExperts, 2, 6, 0})(x), expected(x, false));
  const Experts experts(weights, {8, kExperts, 2, 6, 4});
  const at::Tensor all = experts(x);
  expect_close(all, expected(x, true));
  for (std::int64_t row = 0; row < 9; ++row)  // The same bits alone.
    EXPECT_TRUE(at::equal(experts(x.narrow(0, row, 1)), all.narrow(0, row, 1))) << row;
}

TEST_F(ExpertsTest, AreReadFromEveryLayout) {
  const at::Tensor x = checkpoint_.input(9, 8),
                   before = Experts(checkpoint_.open(), {8, kExperts, 2, 6, 0})(x);
  std::vector<at::Tensor> gate_up, down;
  for (std::int64_t i = 0; i < kExperts; ++i) {
    gate_up.push_back(at::cat({checkpoint_[name(i, "gate_proj")], checkpoint_[name(i, "up_proj")]}));
    down.push_back(checkpoint_[name(i, "down_proj")]);
  }
  for (const bool exchanged : {false, true}) {
    Checkpoint together;
    together["gate.weight"] = checkpoint_["gate.weight"];
    const auto stacked = [&](const std::vector<at::Tensor>& matrices) {
      const at::Tensor all = at::stack(matrices);
      return exchanged ? all.transpose(1, 2).contiguous() : all;
    };
    together["experts.gate_up_proj"] = stacked(gate_up);
    together["experts.down_proj"] = stacked(down);
    EXPECT_TRUE(at::equal(Experts(together.open(), {8, kExperts, 2, 6, 0})(x), before));
    together.add("experts.down_proj", {kExperts, 8, 7});
    EXPECT_THAT(message_of<ModelError>([&] {
                  Experts(together.open(), {8, kExperts, 2, 6, 0});
                }),
                HasSubstr("experts.down_proj"));
  }
}

INSTANTIATE_TEST_SUITE_P(NormOfQueriesAndKeys, DecoderLayerTest, ::testing::Bool());

}  // namespace
}  // namespace tte::nn
