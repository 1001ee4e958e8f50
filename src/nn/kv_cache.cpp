#include "nn/kv_cache.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <unordered_set>

#include "kernels/tensors.h"
#include "nn/fewer_states.h"
#include "tte/error.h"

namespace tte::nn {
namespace {

std::int64_t blocks_for(std::int64_t tokens, std::int64_t block_size) {
  return (tokens + block_size - 1) / block_size;
}

}  // namespace

std::int64_t KvShape::bytes_per_token() const {
  const std::int64_t here = std::ranges::count(devices, device());
  return 2 * layers * (kv_heads / std::ssize(devices) * here) * head_dim *
         static_cast<std::int64_t>(c10::elementSize(dtype));
}

std::shared_ptr<KvPool> KvPool::create(const KvShape& shape, std::int64_t bytes) {
  const std::int64_t block_size = kernels::cache_block_size(shape.device());
  const std::int64_t block_bytes = block_size * shape.bytes_per_token();
  const std::int64_t blocks =
      std::min<std::int64_t>(bytes / block_bytes, std::numeric_limits<std::int32_t>::max());
  if (blocks < 1) {
    throw DeviceError(
        fmt::format("{} bytes for sequence states do not hold one block of {} tokens, which takes {} bytes: "
                    "raise the backend's state_bytes.",
                    bytes, block_size, block_bytes));
  }
  return std::shared_ptr<KvPool>(new KvPool(shape, blocks, block_size));
}

KvPool::KvPool(const KvShape& shape, std::int64_t blocks, std::int64_t block_size)
    : shape_(shape), block_size_(block_size) {
  const bool scratch = kernels::reads_device_lengths(shape.device(), shape.dtype, shape.head_dim);
  const std::int64_t heads = shape.kv_heads / std::ssize(shape.devices);
  for (const at::Device device : shape.devices) {
    const auto tensor = [&] {
      return at::empty({blocks + (scratch ? 1 : 0), block_size, heads, shape.head_dim},
                       at::TensorOptions(shape.dtype).device(device));
    };
    auto& layers = parts_.emplace_back();
    try {
      for (std::int64_t i = 0; i < shape.layers; ++i) layers.push_back({tensor(), tensor()});
    } catch (const c10::Error&) {
      throw OutOfMemoryError(fmt::format("{} cannot give {} bytes for sequence states: {}.", device.str(),
                                         blocks * block_size * shape.bytes_per_token(), kFewerStates));
    }
  }
  references_.assign(static_cast<std::size_t>(blocks), 0);
  free_.reserve(static_cast<std::size_t>(blocks));
  for (std::int64_t block = blocks - 1; block >= 0; --block)
    free_.push_back(static_cast<std::int32_t>(block));
}

std::int64_t KvPool::capacity() const {
  return bytes((static_cast<std::int64_t>(references_.size()) - retired_) * block_size_);
}

std::int64_t KvPool::bytes_per_token() const {
  std::int64_t bytes = shape_.bytes_per_token();
  for (const Kept& kept : kept_) bytes += kept.rows.size(2) * kept.rows.element_size();
  return bytes;
}

std::int64_t KvPool::bytes(std::int64_t tokens) const {
  const std::lock_guard lock(mutex_);
  return blocks_for(tokens, block_size_) * block_size_ * bytes_per_token();
}

void KvPool::keep_hidden(std::int64_t layer, std::int64_t width) {
  const std::lock_guard lock(mutex_);
  if (find_hidden(layer) != nullptr) return;
  const auto blocks = static_cast<std::int64_t>(references_.size()) - retired_;
  const std::int64_t row = width * static_cast<std::int64_t>(c10::elementSize(shape_.dtype));
  const std::int64_t all = bytes_per_token() + row;
  const std::vector<std::int32_t> free = free_;
  const std::int64_t retired = retired_;
  const std::int64_t numbered = retire(std::min((blocks * row + all - 1) / all, blocks - 1));
  try {
    const auto options = at::TensorOptions(shape_.dtype).device(shape_.device());
    kept_.push_back({layer, at::empty({numbered, block_size_, width}, options)});
  } catch (const c10::Error&) {
    free_ = free;
    retired_ = retired;
    throw OutOfMemoryError(fmt::format("{} cannot give {} bytes for the hidden states that a head reads: {}.",
                                       shape_.device().str(), numbered * block_size_ * row, kFewerStates));
  }
}

std::int64_t KvPool::retire(std::int64_t count) {
  std::vector<std::int32_t> last = free_;
  std::sort(last.begin(), last.end(), std::greater<>());
  last.resize(std::min(last.size(), static_cast<std::size_t>(count)));
  std::erase_if(free_, [&](std::int32_t block) { return !last.empty() && block >= last.back(); });
  retired_ += static_cast<std::int64_t>(last.size());
  auto numbered = static_cast<std::int64_t>(references_.size());
  if (!kept_.empty()) numbered = kept_.back().rows.size(0);
  for (const std::int32_t block : last) numbered -= block + 1 == numbered ? 1 : 0;
  return numbered;
}

const at::Tensor* KvPool::find_hidden(std::int64_t layer) const {
  const auto found =
      std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.layer == layer; });
  return found == kept_.end() ? nullptr : &found->rows;
}

at::Tensor KvPool::hidden(std::int64_t layer) const {
  const std::lock_guard lock(mutex_);
  const at::Tensor* rows = find_hidden(layer);
  return rows == nullptr ? at::Tensor() : rows->view({-1, rows->size(2)});
}

bool KvPool::keeps_hidden() const {
  const std::lock_guard lock(mutex_);
  return !kept_.empty();
}

std::int64_t KvPool::free_blocks() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(free_.size());
}

std::unique_ptr<KvState> KvPool::start(std::int64_t reserve) {
  std::size_t kept = 0;
  {
    const std::lock_guard lock(mutex_);
    kept = kept_.size();
  }
  std::unique_ptr<KvState> state(new KvState(shared_from_this(), kept));
  if (!state->reserve(reserve)) return nullptr;
  return state;
}

bool KvPool::allocate(std::int64_t count, std::vector<std::int32_t>& out) {
  const std::lock_guard lock(mutex_);
  if (static_cast<std::int64_t>(free_.size()) < count) return false;
  out.reserve(out.size() + static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t block = free_.back();
    free_.pop_back();
    references_[static_cast<std::size_t>(block)] = 1;
    out.push_back(block);
  }
  return true;
}

void KvPool::share(std::span<const std::int32_t> blocks) {
  const std::lock_guard lock(mutex_);
  for (const std::int32_t block : blocks) ++references_[static_cast<std::size_t>(block)];
}

void KvPool::release(std::span<const std::int32_t> blocks) {
  const std::lock_guard lock(mutex_);
  // Last block first, so that a sequence's first block (surely written) is the next to be handed out.
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    if (--references_[static_cast<std::size_t>(*block)] == 0) free_.push_back(*block);
  }
}

void KvPool::copy_block(std::int32_t from, std::int32_t to, std::int64_t tokens) {
  const auto copy = [&](const at::Tensor& blocks) {
    blocks.select(0, to).narrow(0, 0, tokens).copy_(blocks.select(0, from).narrow(0, 0, tokens));
  };
  for (const auto& layers : parts_) {
    for (const kernels::PagedCache& layer : layers) {
      copy(layer.keys);
      copy(layer.values);
    }
  }
  const std::lock_guard lock(mutex_);
  for (const Kept& kept : kept_) copy(kept.rows);
}

KvState::~KvState() {
  pool_->release(blocks_);
}

std::int64_t KvState::bytes() const {
  return pool_->bytes(static_cast<std::int64_t>(blocks_.size()) * pool_->block_size());
}

bool KvState::reserve(std::int64_t tokens) {
  const std::int64_t missing =
      blocks_for(tokens, pool_->block_size()) - static_cast<std::int64_t>(blocks_.size());
  return missing <= 0 || pool_->allocate(missing, blocks_);
}

void KvState::trim() {
  const auto used = static_cast<std::size_t>(blocks_for(length_, pool_->block_size()));
  if (used >= blocks_.size()) return;
  pool_->release(std::span(blocks_).subspan(used));
  blocks_.resize(used);
}

std::span<const std::int32_t> KvState::first_blocks(std::int64_t tokens) const {
  return std::span(blocks_).first(static_cast<std::size_t>(blocks_for(tokens, pool_->block_size())));
}

std::int64_t KvState::slot(std::int64_t position) const {
  const std::int64_t size = pool_->block_size();
  return blocks_[static_cast<std::size_t>(position / size)] * size + position % size;
}

std::unique_ptr<SequenceState> KvState::fork(std::int64_t length) const {
  if (!can_fork(length)) return nullptr;
  const std::int64_t full = length / pool_->block_size();
  const std::int64_t begun = length % pool_->block_size();
  std::unique_ptr<KvState> child(new KvState(pool_, kept_));
  child->blocks_.reserve(static_cast<std::size_t>(full) + 1);
  const std::span<const std::int32_t> shared(blocks_.data(), static_cast<std::size_t>(full));
  pool_->share(shared);
  child->blocks_.assign(shared.begin(), shared.end());
  if (begun > 0) {
    if (!pool_->allocate(1, child->blocks_)) return nullptr;
    pool_->copy_block(blocks_[static_cast<std::size_t>(full)], child->blocks_.back(), begun);
  }
  child->length_ = length;
  return child;
}

bool KvState::keeps_hidden(std::int64_t layer) const {
  const std::lock_guard lock(pool_->mutex_);
  const auto end = pool_->kept_.begin() + static_cast<std::ptrdiff_t>(kept_);
  return std::any_of(pool_->kept_.begin(), end, [&](const auto& kept) { return kept.layer == layer; });
}

at::Tensor KvState::kept_hidden(std::int64_t layer) const {
  const at::Tensor rows = pool_->hidden(layer);
  const std::int64_t width = rows.size(1);
  const auto used = static_cast<std::size_t>(blocks_for(length_, pool_->block_size()));
  const std::vector<std::int64_t> own(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(used));
  return rows.view({-1, pool_->block_size(), width})
      .index_select(0, at::tensor(own, at::kLong).to(rows.device()))
      .view({-1, width})
      .narrow(0, 0, length_);
}

std::vector<KvState*> kv_states(std::span<const Segment> segments, const KvPool& pool) {
  std::vector<KvState*> states;
  for (const Segment& segment : segments) {
    states.push_back(dynamic_cast<KvState*>(segment.state));
    if (states.back() == nullptr || &states.back()->pool() != &pool) {
      throw Error(
          "A segment's sequence state is missing or belongs to another model: use this model's start().");
    }
  }
  return states;
}

void reserve_step(std::span<KvState* const> states, std::span<const std::int64_t> tokens,
                  const KvPool& pool) {
  std::unordered_set<const KvState*> seen;
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (tokens[i] < 1 || !seen.insert(states[i]).second) {
      throw Error(fmt::format(
          "A segment of {} tokens: each sequence of a step appears once, with at least one token.",
          tokens[i]));
    }
    if (!states[i]->reserve(states[i]->length() + tokens[i])) {
      throw DeviceError(
          fmt::format("The pool of {} bytes for sequence states is full: raise the backend's state_bytes.",
                      pool.capacity()));
    }
  }
}

kernels::PagedBatch page(std::span<KvState* const> states, std::span<const std::int64_t> tokens,
                         const KvPool& pool) {
  reserve_step(states, tokens, pool);
  kernels::PagedBatch batch;
  batch.cu_seqlens.push_back(0);
  std::int64_t most_blocks = 1, rows = 0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    const std::int64_t length = states[i]->length() + tokens[i];
    rows += tokens[i];
    batch.cu_seqlens.push_back(static_cast<std::int32_t>(rows));
    batch.lengths.push_back(static_cast<std::int32_t>(length));
    most_blocks = std::max(most_blocks, blocks_for(length, pool.block_size()));
  }
  at::Tensor table = at::zeros({static_cast<std::int64_t>(states.size()), most_blocks}, at::kInt);
  at::Tensor slots = at::empty({rows}, at::kLong);
  auto* row = table.data_ptr<std::int32_t>();
  auto* slot = slots.data_ptr<std::int64_t>();
  for (std::size_t i = 0; i < states.size(); ++i, row += most_blocks) {
    const std::int64_t begin = states[i]->length(), end = begin + tokens[i];
    std::ranges::copy(states[i]->first_blocks(end), row);
    for (std::int64_t p = begin; p < end; ++p) *slot++ = states[i]->slot(p);
  }
  batch.block_table = kernels::upload(table, pool.shape().device());
  batch.slots = kernels::upload(slots, pool.shape().device());
  return batch;
}

kernels::PagedBatch select_rows(const kernels::PagedBatch& batch, std::span<const std::int64_t> rows) {
  kernels::PagedBatch selected;
  std::vector<std::int64_t> sequences;
  selected.cu_seqlens.push_back(0);
  std::size_t sequence = 0;
  for (const std::int64_t row : rows) {
    while (row >= batch.cu_seqlens[sequence + 1]) ++sequence;
    sequences.push_back(static_cast<std::int64_t>(sequence));
    // The row sees the tokens up to itself: those after it in this step are cut off.
    selected.lengths.push_back(batch.lengths[sequence] -
                               (batch.cu_seqlens[sequence + 1] - 1 - static_cast<std::int32_t>(row)));
    selected.cu_seqlens.push_back(selected.cu_seqlens.back() + 1);
  }
  const auto take = [](const at::Tensor& table, const at::Tensor& index) {
    return table.index_select(0, kernels::upload(index, table.device()));
  };
  selected.block_table = take(batch.block_table, at::tensor(sequences, at::kLong));
  selected.slots = take(batch.slots, at::tensor(at::IntArrayRef(rows.data(), rows.size()), at::kLong));
  return selected;
}

}  // namespace tte::nn
