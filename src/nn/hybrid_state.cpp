#include "nn/hybrid_state.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>

#include "nn/fewer_states.h"
#include "tte/error.h"

namespace tte::nn {

std::int64_t SlotShape::bytes(at::ScalarType dtype) const {
  return layers * (kept * channels * static_cast<std::int64_t>(c10::elementSize(dtype)) +
                   heads * key_dim * value_dim * static_cast<std::int64_t>(sizeof(float)));
}

std::shared_ptr<HybridPool> HybridPool::create(const KvShape& kv, const SlotShape& slot, std::int64_t bytes) {
  const std::int64_t slot_bytes = slot.bytes(kv.dtype);
  // On the CPU what is not written costs nothing, so both may have all of it.
  const std::int64_t share = kv.device().is_cpu() ? bytes : bytes / 2;
  const std::int64_t slots = share / slot_bytes;
  const std::int64_t block = kernels::cache_block_size(kv.device()) * kv.bytes_per_token();
  if (slots < 1 || share < block || slot_bytes + block > bytes) {
    throw DeviceError(
        fmt::format("{} bytes for sequence states do not hold one sequence, which takes {} bytes: raise "
                    "the backend's state_bytes.",
                    bytes, slot_bytes + block));
  }
  auto blocks = KvPool::create(kv, share);
  try {
    return std::shared_ptr<HybridPool>(new HybridPool(std::move(blocks), slot, slot_bytes, slots, bytes));
  } catch (const c10::Error&) {
    throw OutOfMemoryError(fmt::format("{} cannot give {} bytes for sequence states: {}.", kv.device().str(),
                                       bytes, kFewerStates));
  }
}

HybridPool::HybridPool(std::shared_ptr<KvPool> kv, const SlotShape& slot, std::int64_t slot_bytes,
                       std::int64_t slots, std::int64_t capacity)
    : kv_(std::move(kv)), slot_bytes_(slot_bytes), slots_(slots), capacity_(capacity) {
  const auto options = at::TensorOptions(kv_->shape().device());
  for (std::int64_t i = 0; i < slot.layers; ++i) {
    layers_.push_back(
        {at::empty({slots, slot.kept, slot.channels}, options.dtype(kv_->shape().dtype)),
         at::empty({slots, slot.heads, slot.key_dim, slot.value_dim}, options.dtype(at::kFloat))});
  }
}

bool HybridPool::fits(std::int64_t more) const {
  const std::int64_t blocks = kv_->capacity() - kv_->free_blocks() * kv_->bytes(1);
  const std::int64_t slots = touched_ - static_cast<std::int64_t>(free_.size());
  return blocks + slots * slot_bytes_ + more <= capacity_;
}

std::optional<std::int64_t> HybridPool::take_slot() {
  if (free_.empty()) {
    if (touched_ == slots_) return std::nullopt;
    const auto handed_out = static_cast<std::size_t>(touched_) + 1;
    if (free_.capacity() < handed_out) free_.reserve(2 * handed_out);  // Giving back must not fail.
    return touched_++;
  }
  const std::int64_t slot = free_.back();
  free_.pop_back();
  return slot;
}

void HybridPool::release(std::int64_t slot) {
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

std::unique_ptr<HybridState> HybridPool::start(std::int64_t reserve) {
  std::unique_ptr<HybridState> state;
  {
    const std::lock_guard lock(mutex_);
    if (!fits(bytes(reserve))) return nullptr;
    auto kv = kv_->start(reserve);
    if (!kv) return nullptr;
    const auto slot = take_slot();
    if (!slot) return nullptr;
    state.reset(new HybridState(shared_from_this(), std::move(kv), *slot));
  }
  for (const kernels::RecurrentCache& layer : layers_) {
    layer.columns.select(0, state->slot_).zero_();
    layer.memory.select(0, state->slot_).zero_();
  }
  return state;
}

HybridState::~HybridState() {
  pool_->release(slot_);
}

bool HybridState::reserve(std::int64_t tokens) {
  const std::lock_guard lock(pool_->mutex_);
  const std::int64_t missing = pool_->kv_->bytes(tokens) - kv_->bytes();
  return missing <= 0 || (pool_->fits(missing) && kv_->reserve(tokens));
}

std::unique_ptr<SequenceState> HybridState::fork(std::int64_t length) const {
  if (!can_fork(length)) return nullptr;
  std::unique_ptr<HybridState> child;
  {
    const std::lock_guard lock(pool_->mutex_);
    const bool begun = length % pool_->kv_->block_size() != 0;
    if (!pool_->fits(pool_->slot_bytes_ + (begun ? pool_->kv_->bytes(1) : 0))) return nullptr;
    std::unique_ptr<KvState> kv(static_cast<KvState*>(kv_->fork(length).release()));
    if (!kv) return nullptr;
    const auto slot = pool_->take_slot();
    if (!slot) return nullptr;
    child.reset(new HybridState(pool_, std::move(kv), *slot));
  }
  for (const kernels::RecurrentCache& layer : pool_->layers_) {
    layer.columns.select(0, child->slot_).copy_(layer.columns.select(0, slot_));
    layer.memory.select(0, child->slot_).copy_(layer.memory.select(0, slot_));
  }
  return child;
}

std::vector<HybridState*> hybrid_states(std::span<const Segment> segments, const HybridPool& pool) {
  std::vector<HybridState*> states;
  for (const Segment& segment : segments) {
    states.push_back(dynamic_cast<HybridState*>(segment.state));
    if (states.back() == nullptr || &states.back()->pool() != &pool) {
      throw Error(
          "A segment's sequence state is missing or belongs to another model: use this model's start().");
    }
    if (!states.back()->reserve(states.back()->length() + segment.tokens)) {
      throw DeviceError(
          fmt::format("The pool of {} bytes for sequence states is full: raise the backend's state_bytes.",
                      pool.capacity()));
    }
  }
  return states;
}

}  // namespace tte::nn
