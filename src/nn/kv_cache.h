// Keys and values of every sequence of a model, in blocks of one pool.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "nn/sequence_state.h"

namespace tte::nn {

struct KvShape {
  std::int64_t layers = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  at::ScalarType dtype = at::kFloat;
  // Each has as many of the heads. GPUs are there once; a CPU may be all of them.
  std::vector<at::Device> devices = {at::kCPU};

  // The first, which has all that is not divided.
  [[nodiscard]] at::Device device() const { return devices.front(); }
  [[nodiscard]] std::int64_t bytes_per_token() const;  // On that.
};

class KvState;

// The blocks of one model. Each is there on every device of the model, for the heads that are. Address space for the
// whole budget is taken at once; on the CPU a page of it costs memory only once it is written, and blocks that were
// used last are handed out first, so that few pages ever are. Thread-safe. States keep their pool alive.
class KvPool : public std::enable_shared_from_this<KvPool> {
 public:
  // Throws DeviceError when `bytes` of a device do not hold a single block, and OutOfMemoryError when it has too few.
  static std::shared_ptr<KvPool> create(const KvShape& shape, std::int64_t bytes);

  [[nodiscard]] const KvShape& shape() const { return shape_; }
  [[nodiscard]] std::int64_t block_size() const { return block_size_; }
  // Bytes of all blocks on a device, and of those that a sequence of `tokens` tokens takes.
  [[nodiscard]] std::int64_t capacity() const;
  [[nodiscard]] std::int64_t bytes(std::int64_t tokens) const;
  [[nodiscard]] std::int64_t free_blocks() const;

  // An empty state with room for `reserve` tokens; null when there is no room now.
  [[nodiscard]] std::unique_ptr<KvState> start(std::int64_t reserve);

  // The tensors of every layer on one of the devices. Written by store_kv, and by forks.
  [[nodiscard]] std::span<kernels::PagedCache> caches(std::size_t device = 0) { return parts_[device]; }
  // A block that no sequence ever has, for rows that nobody reads: beside the budget, and only on devices whose
  // attention reads_device_lengths().
  [[nodiscard]] std::int32_t scratch_block() const { return static_cast<std::int32_t>(references_.size()); }

  // From now on states that are started have room for a row of `width` values a token, beside keys and values, which
  // the model fills with the hidden states that go into layer `layer`. As many blocks as that takes are given up, so
  // that the pool keeps to its budget. Throws OutOfMemoryError when the device has no memory for it. Again for the same
  // layer: nothing.
  void keep_hidden(std::int64_t layer, std::int64_t width);
  // [all tokens of all blocks, width], where kernels::PagedBatch::slots say; undefined for a layer that is not kept.
  [[nodiscard]] at::Tensor hidden(std::int64_t layer) const;
  [[nodiscard]] bool keeps_hidden() const;  // Of any layer.

 private:
  friend class KvState;
  KvPool(const KvShape& shape, std::int64_t blocks, std::int64_t block_size);
  // `count` blocks with one reference each appended to `out`; false, and nothing taken, when there are fewer.
  bool allocate(std::int64_t count, std::vector<std::int32_t>& out);
  void share(std::span<const std::int32_t> blocks);
  void release(std::span<const std::int32_t> blocks);
  void copy_block(std::int32_t from, std::int32_t to, std::int64_t tokens);

  struct Kept {
    std::int64_t layer;
    at::Tensor rows;  // [blocks, block_size, width]
  };
  // With the mutex held:
  [[nodiscard]] std::int64_t bytes_per_token() const;
  [[nodiscard]] const at::Tensor* find_hidden(std::int64_t layer) const;
  std::int64_t retire(
      std::int64_t count);  // Free blocks, the last ones; returns how many are left to be numbered.

  KvShape shape_;
  std::int64_t block_size_;
  std::vector<std::vector<kernels::PagedCache>> parts_;  // Of each device, and there of each layer.
  mutable std::mutex mutex_;
  std::vector<Kept> kept_;
  std::vector<std::int32_t> free_;        // A stack: the top is handed out next.
  std::vector<std::int32_t> references_;  // Per block: the states that hold it.
  std::int64_t retired_ = 0;              // Blocks that nobody gets any more.
};

// One sequence's blocks. Full blocks may be shared with other states and are never written again.
class KvState final : public SequenceState {
 public:
  ~KvState() override;
  KvState(const KvState&) = delete;
  KvState& operator=(const KvState&) = delete;

  [[nodiscard]] std::int64_t length() const override { return length_; }
  [[nodiscard]] std::int64_t bytes() const override;
  [[nodiscard]] bool reserve(std::int64_t tokens) override;
  void trim() override;
  // Shares the full blocks below `length` and copies the begun one. Null when `length` is negative or past
  // length(), or the pool has no block for the begun one.
  [[nodiscard]] std::unique_ptr<SequenceState> fork(std::int64_t length) const override;
  void cut(std::int64_t length) override { length_ = length; }
  [[nodiscard]] std::size_t kept_layers() const override { return kept_; }
  [[nodiscard]] bool keeps_hidden(std::int64_t layer) const override;
  [[nodiscard]] at::Tensor kept_hidden(std::int64_t layer) const override;

  [[nodiscard]] const std::vector<std::int32_t>& blocks() const { return blocks_; }
  // Those that the first `tokens` tokens are in.
  [[nodiscard]] std::span<const std::int32_t> first_blocks(std::int64_t tokens) const;
  // Where the token at `position` is: its block * block_size + its place there.
  [[nodiscard]] std::int64_t slot(std::int64_t position) const;
  [[nodiscard]] const KvPool& pool() const { return *pool_; }
  // Counts tokens whose keys and values all layers have stored.
  void advance(std::int64_t tokens) { length_ += tokens; }

 private:
  friend class KvPool;
  KvState(std::shared_ptr<KvPool> pool, std::size_t kept) : pool_(std::move(pool)), kept_(kept) {}
  std::shared_ptr<KvPool> pool_;
  std::size_t kept_;  // How many layers the pool kept when this state was started.
  std::vector<std::int32_t> blocks_;
  std::int64_t length_ = 0;
};

// The states of `segments` as the states of `pool` that they must be. Throws tte::Error if one is of another model.
std::vector<KvState*> kv_states(std::span<const Segment> segments, const KvPool& pool);

// Reserves what states[i] lacks for its next tokens[i] tokens. Throws DeviceError when the pool has no room, tte::Error
// for a state without tokens or one that appears twice.
void reserve_step(std::span<KvState* const> states, std::span<const std::int64_t> tokens, const KvPool& pool);

// The same, and how the rows of the step then lie on the cache. Lengths of the states do not change: call advance()
// once the step's keys and values are stored.
kernels::PagedBatch page(std::span<KvState* const> states, std::span<const std::int64_t> tokens,
                         const KvPool& pool);

// The same cache seen by only some rows of the step (ascending), each as a sequence of its own that ends at
// that row: what the last layer needs when few hidden states are wanted.
kernels::PagedBatch select_rows(const kernels::PagedBatch& batch, std::span<const std::int64_t> rows);

}  // namespace tte::nn
