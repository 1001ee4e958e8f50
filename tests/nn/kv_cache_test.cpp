#include "nn/kv_cache.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::nn {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

const KvShape kShape{/*layers=*/2, /*kv_heads=*/2, /*head_dim=*/4, at::kFloat};

std::int64_t block_size() {
  return kernels::cache_block_size(at::kCPU);
}

std::shared_ptr<KvPool> pool_of(std::int64_t blocks) {
  return KvPool::create(kShape, blocks * block_size() * kShape.bytes_per_token());
}

kernels::PagedBatch page_of(const std::vector<Segment>& segments, const KvPool& pool) {
  std::vector<std::int64_t> tokens;
  for (const Segment& segment : segments) tokens.push_back(segment.tokens);
  return page(kv_states(segments, pool), tokens, pool);
}

// Stores `value` + position as keys, and its negative as values, of `tokens` more tokens in every layer.
void append(KvPool& pool, SequenceState& state, std::int64_t tokens, double value) {
  const kernels::PagedBatch batch = page_of({{&state, tokens}}, pool);
  const at::Tensor rows = at::arange(tokens, at::kFloat) + static_cast<double>(state.length()) + value;
  const at::Tensor keys =
      rows.view({-1, 1, 1}).expand({tokens, kShape.kv_heads, kShape.head_dim}).contiguous();
  for (std::int64_t layer = 0; layer < kShape.layers; ++layer) {
    kernels::store_kv(keys, -keys, pool.caches()[static_cast<std::size_t>(layer)], batch);
  }
  dynamic_cast<KvState&>(state).advance(tokens);
}

// The first number stored for token `position` in the keys of the last layer.
float stored(KvPool& pool, const SequenceState& state, std::int64_t position) {
  const auto& kv = dynamic_cast<const KvState&>(state);
  const at::Tensor& keys = pool.caches().back().keys;
  return keys[kv.blocks()[static_cast<std::size_t>(position / block_size())]][position % block_size()][0][0]
      .item<float>();
}

TEST(KvPool, BytesPerTokenCountKeysAndValuesOfAllLayers) {
  EXPECT_EQ(kShape.bytes_per_token(), 2 * 2 * 2 * 4 * 4);
}

TEST(KvPool, TooFewBytes) {
  EXPECT_THAT(
      message_of<DeviceError>([] { KvPool::create(kShape, kShape.bytes_per_token() * block_size() - 1); }),
      HasSubstr("state_bytes"));
}

TEST(KvPool, MoreBytesThanThereAre) {
  EXPECT_THAT(message_of<OutOfMemoryError>([] { KvPool::create(kShape, std::int64_t{1} << 52); }),
              AllOf(HasSubstr("cpu"), HasSubstr("state_bytes")));
}

TEST(KvPool, ExhaustionIsAnAnswer) {
  const auto pool = pool_of(3);
  EXPECT_EQ(pool->capacity(), 3 * block_size() * kShape.bytes_per_token());
  auto a = pool->start(block_size() + 1);
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->bytes(), 2 * block_size() * kShape.bytes_per_token());
  EXPECT_EQ(pool->bytes(block_size() + 1), a->bytes()) << "what a sequence takes is known before";
  EXPECT_EQ(pool->free_blocks(), 1);
  EXPECT_EQ(pool->start(block_size() + 1), nullptr);
  EXPECT_EQ(pool->free_blocks(), 1) << "a refused request must take nothing";
  EXPECT_FALSE(a->reserve(3 * block_size() + 1));
  EXPECT_TRUE(a->reserve(3 * block_size()));
  EXPECT_EQ(pool->free_blocks(), 0);
  a.reset();
  EXPECT_EQ(pool->free_blocks(), 3);
}

TEST(KvPool, StatesKeepItAlive) {
  auto pool = pool_of(1);
  const auto state = pool->start(1);
  const std::weak_ptr<KvPool> watch = pool;
  pool.reset();
  EXPECT_FALSE(watch.expired());
}

TEST(KvPool, BlocksUsedLastAreHandedOutFirst) {
  const auto pool = pool_of(8);
  for (int i = 0; i < 20; ++i) {
    const auto state = pool->start(2 * block_size());
    EXPECT_THAT(state->blocks(), ElementsAre(0, 1));
  }
}

TEST(KvState, ForkSharesFullBlocksAndCopiesTheBegunOne) {
  const auto pool = pool_of(8);
  const auto trunk = pool->start(0);
  append(*pool, *trunk, 2 * block_size() + 3, 100);
  EXPECT_EQ(pool->free_blocks(), 5);
  const auto child = trunk->fork(2 * block_size() + 2);
  ASSERT_NE(child, nullptr);
  EXPECT_EQ(pool->free_blocks(), 4);
  EXPECT_EQ(child->length(), 2 * block_size() + 2);
  append(*pool, *child, 1, 500);
  append(*pool, *trunk, 1, 700);
  const auto at = static_cast<float>(2 * block_size());
  EXPECT_EQ(stored(*pool, *child, 1), 101);
  EXPECT_EQ(stored(*pool, *child, 2 * block_size() + 1), 101 + at);
  EXPECT_EQ(stored(*pool, *child, 2 * block_size() + 2), 502 + at);
  EXPECT_EQ(stored(*pool, *trunk, 2 * block_size() + 2), 102 + at);
  EXPECT_EQ(stored(*pool, *trunk, 2 * block_size() + 3), 703 + at);
}

// Each of the devices has the keys and values of one head.
TEST(KvState, ForksCopyTheBegunBlockOnEveryDevice) {
  KvShape shape = kShape;
  shape.devices = {at::kCPU, at::kCPU};
  EXPECT_EQ(shape.bytes_per_token(), kShape.bytes_per_token()) << "both are on one processor";
  const auto pool = KvPool::create(shape, 8 * block_size() * shape.bytes_per_token());
  EXPECT_EQ(pool->free_blocks(), 8);
  const auto trunk = pool->start(0);
  const kernels::PagedBatch batch = page_of({{trunk.get(), 3}}, *pool);
  const auto value = [](std::size_t device, std::size_t layer) {
    return static_cast<float>(10 * device + layer + 1);
  };
  for (const std::size_t device : {0U, 1U}) {
    ASSERT_EQ(pool->caches(device).size(), 2U);
    for (const std::size_t layer : {0U, 1U}) {
      const at::Tensor rows = at::full({3, 1, kShape.head_dim}, value(device, layer));
      kernels::store_kv(rows, -rows, pool->caches(device)[layer], batch);
    }
  }
  dynamic_cast<KvState&>(*trunk).advance(3);
  const auto child = trunk->fork(2);
  ASSERT_NE(child, nullptr);
  const std::int32_t block = dynamic_cast<const KvState&>(*child).blocks().front();
  EXPECT_NE(block, dynamic_cast<const KvState&>(*trunk).blocks().front());
  for (const std::size_t device : {0U, 1U}) {
    for (const std::size_t layer : {0U, 1U}) {
      const kernels::PagedCache& cache = pool->caches(device)[layer];
      EXPECT_EQ(cache.keys[block][1][0][0].item<float>(), value(device, layer));
      EXPECT_EQ(cache.values[block][1][0][0].item<float>(), -value(device, layer));
    }
  }
}

TEST(KvPool, ADeviceHasRoomForItsOwnHeadsOnly) {
  KvShape shape = kShape;
  shape.devices = {at::Device(at::kCUDA, 0), at::Device(at::kCUDA, 1)};
  EXPECT_EQ(shape.bytes_per_token(), kShape.bytes_per_token() / 2);
}

TEST(KvState, SharedBlocksGoBackWithTheirLastOwner) {
  const auto pool = pool_of(4);
  auto trunk = pool->start(0);
  append(*pool, *trunk, 2 * block_size(), 0);
  auto child = trunk->fork(block_size());
  auto grandchild = child->fork(block_size());
  EXPECT_EQ(pool->free_blocks(), 2);
  trunk.reset();
  EXPECT_EQ(pool->free_blocks(), 3);
  child.reset();
  EXPECT_EQ(pool->free_blocks(), 3);
  EXPECT_EQ(stored(*pool, *grandchild, 5), 5);
  grandchild.reset();
  EXPECT_EQ(pool->free_blocks(), 4);
}

TEST(KvState, TrimGivesBackWhatWasNotUsed) {
  const auto pool = pool_of(8);
  const auto state = pool->start(0);
  append(*pool, *state, block_size() + 3, 100);
  ASSERT_TRUE(state->reserve(6 * block_size()));
  EXPECT_EQ(pool->free_blocks(), 2);
  state->trim();
  EXPECT_EQ(pool->free_blocks(), 6);
  state->trim();
  EXPECT_EQ(pool->free_blocks(), 6) << "nothing is left to give";
  append(*pool, *state, block_size(), 500);  // It grows again.
  EXPECT_EQ(stored(*pool, *state, block_size() + 2), 102 + static_cast<float>(block_size()));
  const auto child = state->fork(block_size());
  state->trim();
  EXPECT_EQ(stored(*pool, *child, 5), 105) << "shared blocks stay";
}

TEST(KvState, ForksThatCannotBe) {
  const auto pool = pool_of(2);
  const auto state = pool->start(0);
  append(*pool, *state, block_size() + 1, 0);
  EXPECT_EQ(state->fork(-1), nullptr);
  EXPECT_EQ(state->fork(block_size() + 2), nullptr);
  EXPECT_EQ(state->fork(block_size() + 1), nullptr) << "there is no block left to copy to";
  EXPECT_EQ(pool->free_blocks(), 0);
  const auto whole = state->fork(block_size());
  ASSERT_NE(whole, nullptr);
  const auto empty = state->fork(0);
  ASSERT_NE(empty, nullptr);
  EXPECT_EQ(empty->length(), 0);
}

TEST(KvState, ThreadsTakeAndGiveBack) {
  const auto pool = pool_of(64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool] {
      for (int i = 0; i < 500; ++i) {
        const auto state = pool->start((i % 7 + 1) * block_size());
        if (state != nullptr) (void)state->fork(0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool->free_blocks(), 64);
}

TEST(Page, LaysRowsOnBlocks) {
  const auto pool = pool_of(8);
  const auto a = pool->start(0), b = pool->start(0);
  append(*pool, *a, block_size() - 1, 0);
  const std::vector<Segment> segments = {{a.get(), 2}, {b.get(), 1}};
  const kernels::PagedBatch batch = page_of(segments, *pool);
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 2, 3));
  EXPECT_THAT(batch.lengths, ElementsAre(block_size() + 1, 1));
  ASSERT_EQ(batch.block_table.sizes(), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(batch.block_table[0][1].item<int>(), a->blocks()[1]);
  EXPECT_EQ(batch.block_table[1][0].item<int>(), b->blocks()[0]);
  EXPECT_EQ(batch.slots[0].item<std::int64_t>(), a->blocks()[0] * block_size() + block_size() - 1);
  EXPECT_EQ(batch.slots[1].item<std::int64_t>(), a->blocks()[1] * block_size());
  EXPECT_EQ(batch.slots[2].item<std::int64_t>(), b->blocks()[0] * block_size());
  EXPECT_EQ(a->length(), block_size() - 1) << "lengths change when the step is done";
}

TEST(Page, SelectedRowsAreSequencesThatEndThere) {
  const auto pool = pool_of(8);
  const auto a = pool->start(0), b = pool->start(0);
  append(*pool, *a, 5, 0);
  const std::vector<Segment> segments = {{a.get(), 3}, {b.get(), 4}};
  const kernels::PagedBatch batch = page_of(segments, *pool);
  const std::vector<std::int64_t> rows = {1, 3, 6};
  const kernels::PagedBatch selected = select_rows(batch, rows);
  EXPECT_THAT(selected.cu_seqlens, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(selected.lengths, ElementsAre(7, 1, 4));
  EXPECT_EQ(selected.block_table[0][0].item<int>(), a->blocks()[0]);
  EXPECT_EQ(selected.block_table[2][0].item<int>(), b->blocks()[0]);
}

TEST(Page, SegmentsThatMakeNoSense) {
  const auto pool = pool_of(1), other = pool_of(1);
  const auto state = pool->start(0), stranger = other->start(0);
  const auto error = [&](const std::vector<Segment>& segments) {
    return message_of<Error>([&] { (void)page_of(segments, *pool); });
  };
  EXPECT_THAT(error({{state.get(), 0}}), HasSubstr("at least one token"));
  EXPECT_THAT(error({{state.get(), 1}, {state.get(), 1}}), HasSubstr("once"));
  EXPECT_THAT(error({{stranger.get(), 1}}), HasSubstr("another model"));
  EXPECT_THAT(error({{nullptr, 1}}), HasSubstr("missing"));
  const std::vector<Segment> large = {{state.get(), block_size() + 1}};
  EXPECT_THAT(message_of<DeviceError>([&] { (void)page_of(large, *pool); }), HasSubstr("state_bytes"));
}

// Stores `value` + position as the hidden state of the last `tokens` tokens, which append() has just added.
void keep(KvPool& pool, const SequenceState& state, std::int64_t layer, std::int64_t tokens, double value) {
  at::Tensor hidden = pool.hidden(layer);
  const auto& kv = dynamic_cast<const KvState&>(state);
  for (std::int64_t i = state.length() - tokens; i < state.length(); ++i) {
    const std::int64_t block = kv.blocks()[static_cast<std::size_t>(i / block_size())];
    hidden[block * block_size() + i % block_size()].fill_(value + static_cast<double>(i));
  }
}

TEST(KvPool, KeepsHiddenStatesWithinItsBudget) {
  const auto pool = pool_of(64);
  const std::int64_t budget = pool->capacity();
  const auto before = pool->start(1);
  EXPECT_FALSE(pool->hidden(3).defined());
  pool->keep_hidden(3, 8);
  pool->keep_hidden(3, 8);
  EXPECT_LE(pool->capacity(), budget);
  EXPECT_GT(pool->capacity(), budget * 9 / 10);
  EXPECT_EQ(pool->bytes(1), block_size() * (kShape.bytes_per_token() + 8 * 4));
  EXPECT_EQ(pool->free_blocks() + 1, pool->capacity() / pool->bytes(1));
  EXPECT_FALSE(before->keeps_hidden(3)) << "it was started before";
  const auto after = pool->start(1);
  EXPECT_TRUE(after->keeps_hidden(3));
  EXPECT_FALSE(after->keeps_hidden(2));
  pool->keep_hidden(2, 8);
  EXPECT_FALSE(after->keeps_hidden(2));
  EXPECT_EQ(after->kept_layers(), 1);
  EXPECT_EQ(pool->start(1)->kept_layers(), 2);
  EXPECT_LE(pool->capacity(), budget);
}

TEST(KvState, ForksHaveTheHiddenStatesOfTheirTokens) {
  const auto pool = pool_of(64);
  pool->keep_hidden(1, 8);
  const auto state = pool->start(1);
  const std::int64_t length = 2 * block_size() + 3;
  append(*pool, *state, length, 0);
  keep(*pool, *state, 1, length, 100);
  const auto child = state->fork(block_size() + 2);
  ASSERT_NE(child, nullptr);
  append(*pool, *child, 2, 0);
  keep(*pool, *child, 1, 2, 500);
  const at::Tensor own = state->kept_hidden(1), forked = child->kept_hidden(1);
  EXPECT_EQ(own.sizes(), (at::IntArrayRef{length, 8}));
  EXPECT_TRUE(own.select(1, 7).equal(at::arange(length, at::kFloat) + 100));
  EXPECT_TRUE(forked.narrow(0, 0, block_size() + 2).equal(own.narrow(0, 0, block_size() + 2)));
  EXPECT_EQ(forked[-1][0].item<float>(), 500 + static_cast<float>(block_size()) + 3);
}

TEST(KvPool, ABlockAtLeastIsLeftWhereHiddenStatesAreKept) {
  const auto pool = pool_of(1);
  pool->keep_hidden(0, 1024);
  EXPECT_EQ(pool->free_blocks(), 1);
  EXPECT_NE(pool->start(1), nullptr);
}

}  // namespace
}  // namespace tte::nn
