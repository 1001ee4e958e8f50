// Steps with inputs that stay where they are (nn/fixed_steps.h): against ordinary steps, recorded and not.
#include "nn/fixed_steps.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "cuda_check/device.h"
#include "cuda_check/steps.h"
#include "kernels/kernels.h"
#include "kernels/reference.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::testing {
namespace {

using base::LinearFormat;
using models::LanguageModel;
using nn::FixedSteps;
using nn::KvState;

// Steps of 1, 3 and 5 rows, each several times: the first of a size is done as it is, the second recorded.
std::vector<at::Tensor> logits_of_steps(const LanguageModel& model) {
  Steps steps(model, 3);
  steps.step({{0, kLongestPrompt}, {1, 6}, {2, 3}}, /*all=*/false);
  std::vector<at::Tensor> logits;
  for (int i = 0; i < 3; ++i) {
    for (const std::vector<Piece>& pieces :
         {std::vector<Piece>{{1, 1}}, {{0, 1}, {1, 1}, {2, 1}}, {{2, 3}, {0, 1}, {1, 1}}})
      logits.push_back(steps.step(pieces, /*all=*/true));
  }
  return logits;
}

// A GPU may add in another order.
bool same(const at::Tensor& a, const at::Tensor& b, bool exact) {
  return exact ? at::equal(a, b) : at::allclose(a, b, 0.0, 0.1);
}

class FixedDecoderTest : public ::testing::TestWithParam<LinearFormat> {
 protected:
  static void SetUpTestSuite() { kernels::load_cuda(); }
};

TEST_P(FixedDecoderTest, GivesTheRowsOfOrdinarySteps) {
  const TempDir folder;
  const auto file = folder.path() / "model.safetensors";
  write_decoder(file, DecoderKind::kAttention, kSmall);
  const auto load = [&](bool cuda_graphs) {
    return load_small(file, DecoderKind::kAttention, cuda_device(), at::kBFloat16, GetParam(), cuda_graphs);
  };
  const LanguageModel ordinary = load(false), fixed = load(false), recorded = load(true);
  ordinary.keep_hidden(0);  // What such a model does in every step is not recorded.
  const auto expected = logits_of_steps(ordinary), actual = logits_of_steps(fixed),
             replayed = logits_of_steps(recorded);
  // On the processor products of plain weights depend on the number of rows; other products do nowhere.
  const bool plain = GetParam() == LinearFormat::kPlain;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(same(actual[i], expected[i], kIsShim && !plain)) << "step " << i;
    EXPECT_TRUE(same(replayed[i], actual[i], kIsShim || !plain)) << "step " << i << ", recorded";
  }
}

INSTANTIATE_TEST_SUITE_P(All, FixedDecoderTest, ::testing::Values(LinearFormat::kPlain, LinearFormat::kInt8),
                         [](const auto& info) { return base::quantization_name(info.param); });

TEST(FixedStepsTest, OfOtherModelsAreOrdinary) {
  kernels::load_cuda();
  const TempDir folder;
  const auto file = folder.path() / "model.safetensors";
  write_decoder(file, DecoderKind::kHybrid, kSmall);
  const auto logits = [&](bool cuda_graphs) {
    return at::cat(logits_of_steps(load_small(file, DecoderKind::kHybrid, cuda_device(), at::kBFloat16,
                                              LinearFormat::kPlain, cuda_graphs)));
  };
  EXPECT_TRUE(same(logits(true), logits(false), kIsShim));
}

// A layer of attention over a pool, whose queries, keys and values are rows of a table.
class AttentionSteps : public ::testing::Test {
 protected:
  static constexpr std::int64_t kHeads = 4, kKvHeads = 2, kHeadDim = 32, kVocabulary = 50;
  static constexpr double kScale = 0.2;

  static void SetUpTestSuite() { kernels::load_cuda(); }
  void SetUp() override {
    pool_ = nn::KvPool::create({1, kKvHeads, kHeadDim, at::kBFloat16, {cuda_device()}}, 8 << 20);
    for (const at::Tensor& tensor : tensors()) tensor.fill_(-1);
    table_ = kernels::reference::random({kVocabulary, kHeads + 2 * kKvHeads, kHeadDim}, at::kBFloat16, 1)
                 .to(cuda_device());
  }

  [[nodiscard]] std::vector<at::Tensor> tensors() const {
    return {pool_->caches()[0].keys, pool_->caches()[0].values};
  }
  std::unique_ptr<KvState> start(std::int64_t length) {
    auto state = pool_->start(length);
    state->advance(length);
    return state;
  }

  // The next token of each state; every step reads other tokens.
  at::Tensor step(FixedSteps& steps, const std::vector<KvState*>& states) {
    const auto rows = std::ssize(states);
    ids_ = (at::arange(rows, at::kLong) * 7 + 3 * step_++) % kVocabulary;
    const at::Tensor out =
        steps.run(ids_, at::zeros({3, rows}, at::kLong), states, std::vector<std::int64_t>(states.size(), 1),
                  [this](const FixedSteps::Inputs& inputs) { return attend(inputs); });
    for (KvState* state : states) state->advance(1);
    return out.cpu();
  }
  at::Tensor attend(const FixedSteps::Inputs& inputs) {
    ++done_;
    const at::Tensor qkv = table_.index_select(0, inputs.ids);
    kernels::PagedCache& cache = pool_->caches()[0];
    kernels::store_kv(qkv.narrow(1, kHeads, kKvHeads), qkv.narrow(1, kHeads + kKvHeads, kKvHeads), cache,
                      inputs.batch);
    return kernels::paged_attention(qkv.narrow(1, 0, kHeads), cache, inputs.batch, kScale);
  }

  // What the last step gives `state`, whose row of it is `row`.
  at::Tensor expected(const KvState& state, std::int64_t row) {
    const auto first = [&](const at::Tensor& pages) {
      std::vector<std::int64_t> blocks(state.blocks().begin(), state.blocks().end());
      return pages.cpu()
          .index_select(0, at::tensor(blocks, at::kLong))
          .flatten(0, 1)
          .narrow(0, 0, state.length());
    };
    const at::Tensor q = table_.cpu().index_select(0, ids_.narrow(0, row, 1)).narrow(1, 0, kHeads);
    return kernels::reference::attention(q, first(tensors()[0]), first(tensors()[1]), true, kScale);
  }

  std::shared_ptr<nn::KvPool> pool_;
  at::Tensor table_, ids_;
  int done_ = 0;  // How often the work was done by the host.
  int step_ = 0;
};

TEST_F(AttentionSteps, FilledUpRowsTouchNoSequence) {
  FixedSteps steps(pool_, /*record=*/false);
  const auto a = start(300), b = start(256), c = start(7);
  const std::vector<KvState*> states{a.get(), b.get(), c.get()};
  const std::int64_t scratch = pool_->scratch_block();
  std::vector<at::Tensor> before;
  for (const at::Tensor& tensor : tensors()) {
    tensor.select(0, scratch).fill_(NAN);
    before.push_back(tensor.cpu().clone());
  }
  const at::Tensor out = step(steps, states);
  ASSERT_EQ(out.size(0), 3);
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(kernels::reference::difference(out[i], expected(*states[static_cast<std::size_t>(i)], i)[0],
                                             4.0 * kernels::reference::rounding(at::kBFloat16)),
              "");
  }
  for (std::size_t i = 0; i < before.size(); ++i) {
    const at::Tensor after = tensors()[i].cpu();
    at::Tensor changed = (after != before[i]).narrow(0, 0, scratch).flatten(0, 1).flatten(1).any(1);
    for (const KvState* state : states) {
      EXPECT_TRUE(changed[state->slot(state->length() - 1)].item<bool>());
      changed[state->slot(state->length() - 1)] = false;
    }
    EXPECT_FALSE(changed.any().item<bool>());
  }
}

TEST_F(AttentionSteps, WithoutRoomThrows) {
  FixedSteps steps(pool_, /*record=*/false);
  const auto all = start(pool_->free_blocks() * pool_->block_size());
  EXPECT_THROW(step(steps, {all.get()}), DeviceError);
}

TEST_F(AttentionSteps, AreRecordedAgainWhereWhatTheyReadHasMoved) {
  FixedSteps steps(pool_, /*record=*/true), plain(pool_, /*record=*/false);
  const auto a = start(255), b = start(20), c = start(8 * pool_->block_size() - 1);
  // Both step from the same keys and values; the last one's stay.
  const auto check = [&](const std::vector<KvState*>& states, int done, const char* when) {
    done_ = 0;
    const at::Tensor out = step(steps, states);
    EXPECT_EQ(done_, done) << when;
    for (std::size_t i = 0; i < states.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i);
      EXPECT_EQ(kernels::reference::difference(out[row], expected(*states[i], row)[0],
                                               4.0 * kernels::reference::rounding(at::kBFloat16)),
                "")
          << when << ", row " << i;
    }
  };
  check({a.get(), b.get()}, 1, "the first of two rows");
  check({a.get(), b.get()}, 1, "recorded");
  check({a.get(), b.get()}, 0, "replayed");
  check({b.get(), c.get()}, 0, "other sequences");
  check({c.get(), a.get()}, 1, "one block more than there was room for");
  check({a.get(), c.get()}, 1, "recorded for more blocks");
  check({a.get(), c.get()}, 0, "replayed with more blocks");
  check({c.get()}, 1, "the first of one row");
  check({b.get()}, 1, "one row, recorded");
  check({a.get(), b.get()}, 0, "two rows again");
  check({c.get()}, 0, "one row again");
  for (at::Tensor* tensor : {&pool_->caches()[0].keys, &pool_->caches()[0].values}) *tensor = tensor->clone();
  check({c.get()}, 1, "with tensors of the pool elsewhere");
  check({c.get()}, 0, "which stay there");
  check({b.get(), a.get()}, 1, "the same for two rows");
}

TEST_F(AttentionSteps, ResultsOutliveTheNextStep) {
  FixedSteps steps(pool_, /*record=*/true);
  const auto a = start(20);
  step(steps, {a.get()});
  const at::Tensor ids = at::zeros({1}, at::kLong), positions = at::zeros({3, 1}, at::kLong);
  const std::vector<KvState*> states{a.get()};
  const std::vector<std::int64_t> tokens{1};
  const auto run = [&](const at::Tensor& read) {
    return steps.run(read, positions, states, tokens,
                     [this](const FixedSteps::Inputs& inputs) { return attend(inputs); });
  };
  const at::Tensor first = run(ids), kept = first.clone();
  const at::Tensor second = run(ids + 1);
  EXPECT_TRUE(at::equal(first, kept));
  EXPECT_FALSE(at::equal(second, first));
}

TEST_F(AttentionSteps, SizesAreFew) {
  FixedSteps steps(pool_, /*record=*/true);
  std::vector<std::unique_ptr<KvState>> kept;
  std::vector<KvState*> states;
  done_ = 0;
  for (int rows = 1; rows <= 30; ++rows) {
    kept.push_back(start(1));
    states.push_back(kept.back().get());
    step(steps, states);
  }
  EXPECT_EQ(done_, 10);  // 1, 2, 4, 8, 16 and 32, the first two of which have no second step: 2 + 2 * 4.
}

TEST(KvPoolTest, TheScratchBlockIsBesideTheBudget) {
  kernels::load_cuda();
  const auto pool = nn::KvPool::create({1, 2, 32, at::kBFloat16, {cuda_device()}}, 8 << 20);
  EXPECT_EQ(pool->capacity(), 8 << 20);
  const auto all = pool->start(pool->free_blocks() * pool->block_size());
  ASSERT_NE(all, nullptr);
  for (const std::int32_t block : all->blocks()) EXPECT_LT(block, pool->scratch_block());
  EXPECT_EQ(pool->caches()[0].keys.size(0), pool->scratch_block() + 1);
}

}  // namespace
}  // namespace tte::testing
