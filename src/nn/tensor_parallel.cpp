#include "nn/tensor_parallel.h"

#include <c10/core/DeviceGuard.h>

#include <cstddef>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/tensors.h"

namespace tte::nn {
namespace {

// A layer for each device, made by make(its tensors).
template <typename Layer, typename Make>
std::vector<Layer> make_parts(const weights::StateDict& weights, const std::vector<at::Device>& devices,
                              weights::Slice slice, const Make& make) {
  std::vector<Layer> parts;
  slice.count = std::ssize(devices);
  for (const at::Device device : devices) {
    slice.device = device;
    parts.push_back(make(weights.slice(slice)));
    ++slice.index;
  }
  return parts;
}

// What compute(i, x on device i) of all devices is together.
template <typename Compute>
at::Tensor sum_of_parts(const at::Tensor& x, const std::vector<at::Device>& devices, const Compute& compute) {
  const std::vector<at::Tensor> inputs = kernels::broadcast(x, devices);
  std::vector<at::Tensor> outputs;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const c10::DeviceGuard guard(devices[i]);
    outputs.push_back(compute(i, inputs[i]));
  }
  return kernels::reduce_sum(outputs);
}

// On the first device, or what is there of it on a further one.
template <typename T>
const T& on(const T& first, std::size_t device) {
  return device == 0 ? first : first.further.at(device - 1);
}

}  // namespace

TensorParallelAttention::TensorParallelAttention(const weights::StateDict& weights,
                                                 const AttentionShape& shape, std::int64_t cache)
    : devices_(weights.devices()) {
  AttentionShape part = shape;
  part.heads /= std::ssize(devices_);
  part.kv_heads /= std::ssize(devices_);
  const weights::Slice slice{.by_outputs = {"q_proj", "k_proj", "v_proj"}, .by_inputs = {"o_proj"}};
  parts_ = make_parts<Attention>(weights, devices_, slice,
                                 [&](const weights::StateDict& own) { return Attention(own, part, cache); });
}

at::Tensor TensorParallelAttention::mix(const at::Tensor& x, const Step& step) const {
  return sum_of_parts(
      x, devices_, [&](std::size_t i, const at::Tensor& rows) { return parts_[i].mix(rows, on(step, i)); });
}

at::Tensor TensorParallelAttention::mix_selected(const at::Tensor& x, const Step& step,
                                                 const Selection& selection) const {
  return sum_of_parts(x, devices_, [&](std::size_t i, const at::Tensor& rows) {
    return parts_[i].mix_selected(rows, on(step, i), on(selection, i));
  });
}

TensorParallelMlp::TensorParallelMlp(const weights::StateDict& weights, std::int64_t hidden,
                                     std::int64_t intermediate)
    : devices_(weights.devices()) {
  const std::int64_t part = intermediate / std::ssize(devices_);
  const weights::Slice slice{.by_outputs = {"gate_proj", "up_proj"}, .by_inputs = {"down_proj"}};
  parts_ = make_parts<GatedMlp>(weights, devices_, slice,
                                [&](const weights::StateDict& own) { return GatedMlp(own, hidden, part); });
}

at::Tensor TensorParallelMlp::operator()(const at::Tensor& x) const {
  return sum_of_parts(x, devices_, [&](std::size_t i, const at::Tensor& rows) { return parts_[i](rows); });
}

std::vector<Step> further_steps(const Step& step, KvPool& pool) {
  std::vector<Step> further;
  const std::vector<at::Device>& devices = pool.shape().devices;
  for (std::size_t i = 1; i < devices.size(); ++i) {
    // A copy between GPUs waits for the streams of both, and what comes next there for the copy; nobody waits here.
    const auto there = [&](const at::Tensor& x) { return kernels::upload(x, devices[i]); };
    kernels::PagedBatch batch = step.batch;
    batch.block_table = there(batch.block_table);
    batch.slots = there(batch.slots);
    further.push_back({{there(step.rope.cos), there(step.rope.sin)}, std::move(batch), pool.caches(i)});
  }
  return further;
}

}  // namespace tte::nn
