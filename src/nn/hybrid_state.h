// What models keep of a sequence whose layers are partly attention, partly recurrent: keys and values in
// blocks, and a slot of fixed size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "nn/kv_cache.h"
#include "nn/sequence_state.h"

namespace tte::nn {

// What each recurrent layer keeps of a sequence: `kept` inputs of a convolution, of `channels` values in the
// model's type, and a float32 matrix [key_dim, value_dim] for each head.
struct SlotShape {
  std::int64_t layers = 0;
  std::int64_t kept = 0;
  std::int64_t channels = 0;
  std::int64_t heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;

  [[nodiscard]] std::int64_t bytes(at::ScalarType dtype) const;  // For all layers together.
};

class HybridState;

// The blocks and slots of one model, which share one budget of bytes. As KvPool: address space is taken at
// once, and costs memory on the CPU only once it is written; what was used last is handed out first.
// Thread-safe. States keep their pool alive.
class HybridPool : public std::enable_shared_from_this<HybridPool> {
 public:
  // Throws DeviceError when `bytes` does not hold a slot and a block, and OutOfMemoryError when the device
  // cannot give them.
  static std::shared_ptr<HybridPool> create(const KvShape& kv, const SlotShape& slot, std::int64_t bytes);

  [[nodiscard]] const std::shared_ptr<KvPool>& kv() const { return kv_; }
  [[nodiscard]] std::span<kernels::RecurrentCache> caches() { return layers_; }  // One per recurrent layer.
  // Bytes of everything, and of what a sequence of `tokens` tokens takes.
  [[nodiscard]] std::int64_t capacity() const { return capacity_; }
  [[nodiscard]] std::int64_t bytes(std::int64_t tokens) const { return slot_bytes_ + kv_->bytes(tokens); }

  // An empty state with room for `reserve` tokens; null when there is no room now.
  [[nodiscard]] std::unique_ptr<HybridState> start(std::int64_t reserve);

 private:
  friend class HybridState;
  HybridPool(std::shared_ptr<KvPool> kv, const SlotShape& slot, std::int64_t slot_bytes, std::int64_t slots,
             std::int64_t capacity);
  // Whether so many bytes more are within the budget. With the mutex held, as take_slot().
  [[nodiscard]] bool fits(std::int64_t more) const;
  [[nodiscard]] std::optional<std::int64_t> take_slot();
  void release(std::int64_t slot);

  std::shared_ptr<KvPool> kv_;
  std::int64_t slot_bytes_, slots_, capacity_;
  std::vector<kernels::RecurrentCache> layers_;
  mutable std::mutex mutex_;        // Held from looking for room until it is taken.
  std::vector<std::int64_t> free_;  // Slots that were given back: a stack.
  std::int64_t touched_ = 0;        // How many slots were ever handed out; those above were not.
};

// One sequence's blocks and slot. It can be forked at its end only.
class HybridState final : public SequenceState {
 public:
  ~HybridState() override;
  HybridState(const HybridState&) = delete;
  HybridState& operator=(const HybridState&) = delete;

  [[nodiscard]] std::int64_t length() const override { return kv_->length(); }
  [[nodiscard]] std::int64_t bytes() const override { return pool_->slot_bytes_ + kv_->bytes(); }
  [[nodiscard]] bool reserve(std::int64_t tokens) override;
  void trim() override { kv_->trim(); }
  [[nodiscard]] bool cuttable() const override { return false; }
  // Copies the slot and forks the blocks (KvState::fork). Null when `length` is not length(), or there is no room.
  [[nodiscard]] std::unique_ptr<SequenceState> fork(std::int64_t length) const override;

  [[nodiscard]] std::size_t kept_layers() const override { return kv_->kept_layers(); }
  [[nodiscard]] bool keeps_hidden(std::int64_t layer) const override { return kv_->keeps_hidden(layer); }
  [[nodiscard]] at::Tensor kept_hidden(std::int64_t layer) const override { return kv_->kept_hidden(layer); }

  [[nodiscard]] KvState& kv() const { return *kv_; }
  [[nodiscard]] std::int64_t slot() const { return slot_; }
  [[nodiscard]] const HybridPool& pool() const { return *pool_; }

 private:
  friend class HybridPool;
  HybridState(std::shared_ptr<HybridPool> pool, std::unique_ptr<KvState> kv, std::int64_t slot)
      : pool_(std::move(pool)), kv_(std::move(kv)), slot_(slot) {}
  std::shared_ptr<HybridPool> pool_;
  std::unique_ptr<KvState> kv_;
  std::int64_t slot_;
};

// The states of `segments` as the states of `pool` that they must be, with room for their new tokens. Throws
// as kv_states() and page().
std::vector<HybridState*> hybrid_states(std::span<const Segment> segments, const HybridPool& pool);

}  // namespace tte::nn
