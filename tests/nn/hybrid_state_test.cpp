#include "nn/hybrid_state.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::nn {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

const KvShape kKv{/*layers=*/1, /*kv_heads=*/1, /*head_dim=*/4, at::kBFloat16};
const SlotShape kSlot{/*layers=*/2, /*kept=*/3,    /*channels=*/5,
                      /*heads=*/2,  /*key_dim=*/4, /*value_dim=*/6};

std::int64_t block_bytes() {
  return kernels::cache_block_size(at::kCPU) * kKv.bytes_per_token();
}
std::int64_t slot_bytes() {
  return kSlot.bytes(kKv.dtype);
}

TEST(HybridPool, ASlotHasColumnsAndAMatrixOfFloat32) {
  EXPECT_EQ(slot_bytes(), 2 * (3 * 5 * 2 + 2 * 4 * 6 * 4));
}

TEST(HybridPool, TooFewBytes) {
  EXPECT_THAT(message_of<DeviceError>(
                  [&] { (void)HybridPool::create(kKv, kSlot, slot_bytes() + block_bytes() - 1); }),
              HasSubstr("raise the backend's state_bytes"));
  EXPECT_EQ(HybridPool::create(kKv, kSlot, slot_bytes() + block_bytes())->capacity(),
            slot_bytes() + block_bytes());
}

TEST(HybridPool, BlocksAndSlotsShareABudget) {
  const auto pool = HybridPool::create(kKv, kSlot, 2 * slot_bytes() + 3 * block_bytes());
  const std::int64_t block = kernels::cache_block_size(at::kCPU);
  EXPECT_EQ(pool->bytes(1), slot_bytes() + block_bytes());
  EXPECT_EQ(pool->bytes(block + 1), slot_bytes() + 2 * block_bytes());
  auto first = pool->start(2 * block);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->bytes(), slot_bytes() + 2 * block_bytes());
  const auto second = pool->start(block);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(pool->start(0), nullptr) << "no bytes for a third slot";
  EXPECT_FALSE(second->reserve(block + 1)) << "all blocks are taken";
  first.reset();
  EXPECT_TRUE(second->reserve(3 * block));
  EXPECT_EQ(pool->start(block), nullptr) << "a slot, but no block beside it";
  EXPECT_NE(pool->start(0), nullptr);
}

TEST(HybridState, BeginsWithZerosAndForksAtItsEndOnly) {
  const auto pool = HybridPool::create(kKv, kSlot, 1 << 20);
  const std::vector<kernels::RecurrentCache> layers(pool->caches().begin(), pool->caches().end());
  std::int64_t slot = -1;
  {
    const auto used = pool->start(1);
    slot = used->slot();
    for (const auto& layer : layers) {
      layer.columns[slot].fill_(7);
      layer.memory[slot].fill_(8);
    }
  }
  const auto state = pool->start(8);
  EXPECT_EQ(state->slot(), slot) << "what was used last is handed out first";
  for (const auto& layer : layers) {
    EXPECT_EQ(layer.columns[slot].abs().max().item<float>(), 0.0F);
    EXPECT_EQ(layer.memory[slot].abs().max().item<float>(), 0.0F);
  }
  state->kv().advance(5);
  layers[1].memory[slot].fill_(3);
  EXPECT_FALSE(state->cuttable());
  EXPECT_EQ(state->fork(4), nullptr);
  const auto fork = state->fork(5);
  ASSERT_NE(fork, nullptr);
  EXPECT_EQ(fork->length(), 5);
  const std::int64_t other = dynamic_cast<const HybridState&>(*fork).slot();
  EXPECT_NE(other, slot);
  layers[1].memory[slot].fill_(4);  // The one goes on without the other.
  EXPECT_TRUE(layers[1].memory[other].equal(at::full({2, 4, 6}, 3.0F)));
}

TEST(HybridState, ForksNeedRoom) {
  const auto pool = HybridPool::create(kKv, kSlot, 2 * slot_bytes() + block_bytes());
  const auto state = pool->start(1);
  EXPECT_NE(state->fork(0), nullptr);
  state->kv().advance(1);
  EXPECT_EQ(state->fork(1), nullptr) << "no block for the begun one";
}

TEST(HybridState, StatesOfAnotherModel) {
  const auto pool = HybridPool::create(kKv, kSlot, 1 << 20), other = HybridPool::create(kKv, kSlot, 1 << 20);
  const auto state = pool->start(0), foreign = other->start(0);
  EXPECT_EQ(hybrid_states(std::vector<Segment>{{state.get(), 3}}, *pool).size(), 1U);
  EXPECT_GE(state->kv().blocks().size(), 1U) << "room for the new tokens";
  EXPECT_THROW((void)hybrid_states(std::vector<Segment>{{foreign.get(), 3}}, *pool), Error);
  EXPECT_THROW((void)hybrid_states(std::vector<Segment>{{&state->kv(), 3}}, *pool), Error);
}

}  // namespace
}  // namespace tte::nn
