#include "nn/fixed_steps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "kernels/tensors.h"

namespace tte::nn {
namespace {

constexpr std::int64_t kFewestBlocks = 8;
// Up to here sizes double; from here on each has so many rows more.
constexpr std::int64_t kRowsMore = 32;

std::int64_t power_of_two(std::int64_t least) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(least)));
}

std::int64_t filled_rows(std::int64_t rows) {
  return rows <= kRowsMore ? power_of_two(rows) : (rows + kRowsMore - 1) / kRowsMore * kRowsMore;
}

// What one copy brings to the device. Views of int64 memory.
struct Parts {
  static std::int64_t size(std::int64_t rows, std::int64_t blocks) {
    return 5 * rows + (rows * (1 + blocks) + 1) / 2;
  }
  Parts(const at::Tensor& memory, std::int64_t rows, std::int64_t blocks)
      : ids(memory.narrow(0, 0, rows)),
        positions(memory.narrow(0, rows, 3 * rows).view({3, rows})),
        slots(memory.narrow(0, 4 * rows, rows)) {
    const at::Tensor small = memory.narrow(0, 5 * rows, memory.numel() - 5 * rows).view(at::kInt);
    lengths = small.narrow(0, 0, rows);
    block_table = small.narrow(0, rows, rows * blocks).view({rows, blocks});
  }
  at::Tensor ids, positions, slots;  // int64
  at::Tensor lengths, block_table;   // int32
};

}  // namespace

FixedSteps::FixedSteps(std::shared_ptr<KvPool> pool, bool record) : pool_(std::move(pool)), record_(record) {}

at::Tensor FixedSteps::run(const at::Tensor& ids, const at::Tensor& positions,
                           std::span<KvState* const> states, std::span<const std::int64_t> tokens,
                           const Work& work) {
  reserve_step(states, tokens, *pool_);
  std::int64_t blocks = kFewestBlocks;
  for (std::size_t i = 0; i < states.size(); ++i)
    blocks = std::max(blocks, std::ssize(states[i]->first_blocks(states[i]->length() + tokens[i])));
  Steps& steps = steps_of(filled_rows(ids.numel()), power_of_two(blocks));
  fill(steps, ids, positions, states, tokens);
  if (record_ && steps.done_before) {
    replay(steps, work);
    return steps.result.narrow(0, 0, ids.numel()).clone();  // The next replay writes over it.
  }
  const at::Tensor result = work(steps.inputs);
  steps.done_before = true;
  return result.narrow(0, 0, ids.numel());
}

FixedSteps::Steps& FixedSteps::steps_of(std::int64_t rows, std::int64_t blocks) {
  Steps& steps = steps_[rows];
  if (steps.blocks >= blocks) return steps;
  steps = {};
  steps.blocks = blocks;
  const at::Device device = pool_->shape().device();
  steps.memory = at::empty({Parts::size(rows, blocks)}, at::TensorOptions(at::kLong).device(device));
  const Parts parts(steps.memory, rows, blocks);
  steps.inputs.ids = parts.ids;
  steps.inputs.positions = parts.positions;
  kernels::PagedBatch& batch = steps.inputs.batch;
  batch.cu_seqlens.resize(static_cast<std::size_t>(rows) + 1);
  std::iota(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), 0);
  batch.lengths.assign(static_cast<std::size_t>(rows),
                       static_cast<std::int32_t>(blocks * pool_->block_size()));
  batch.block_table = parts.block_table;
  batch.slots = parts.slots;
  batch.device_cu_seqlens = at::arange(rows + 1, at::TensorOptions(at::kInt).device(device));
  batch.device_lengths = parts.lengths;
  return steps;
}

void FixedSteps::fill(const Steps& steps, const at::Tensor& ids, const at::Tensor& positions,
                      std::span<KvState* const> states, std::span<const std::int64_t> tokens) const {
  const std::int64_t rows = steps.inputs.ids.numel(), count = ids.numel();
  const at::Tensor memory = kernels::host_tensor(steps.memory.sizes(), pool_->shape().device());
  const Parts parts(memory.zero_(), rows, steps.blocks);
  parts.ids.narrow(0, 0, count).copy_(ids);
  parts.positions.narrow(1, 0, count).copy_(positions);
  auto* slot = parts.slots.mutable_data_ptr<std::int64_t>();
  auto* length = parts.lengths.mutable_data_ptr<std::int32_t>();
  auto* blocks = parts.block_table.mutable_data_ptr<std::int32_t>();
  for (std::size_t i = 0; i < states.size(); ++i) {
    const std::int64_t begin = states[i]->length();
    for (std::int64_t p = begin; p < begin + tokens[i]; ++p, blocks += steps.blocks) {
      *slot++ = states[i]->slot(p);
      *length++ = static_cast<std::int32_t>(p + 1);
      std::ranges::copy(states[i]->first_blocks(p + 1), blocks);
    }
  }
  for (std::int64_t row = count; row < rows; ++row, blocks += steps.blocks) {
    *slot++ = pool_->scratch_block() * pool_->block_size();
    *length++ = 1;
    *blocks = pool_->scratch_block();
  }
  steps.memory.copy_(memory, /*non_blocking=*/true);
}

void FixedSteps::replay(Steps& steps, const Work& work) {
  std::vector<const void*> addresses;
  for (const kernels::PagedCache& cache : pool_->caches()) {
    for (const at::Tensor* tensor : {&cache.keys, &cache.values})
      addresses.push_back(tensor->const_data_ptr());
  }
  if (!steps.recording || steps.addresses != addresses) {
    steps.result.reset();
    steps.recording.reset();
    kernels::Recording* sharing = nullptr;
    for (const auto& [rows, other] : steps_) {
      if (other.recording) sharing = other.recording.get();
    }
    steps.recording = kernels::record(
        pool_->shape().device(), [&] { steps.result = work(steps.inputs); }, sharing);
    steps.addresses = std::move(addresses);
  }
  steps.recording->replay();
}

}  // namespace tte::nn
