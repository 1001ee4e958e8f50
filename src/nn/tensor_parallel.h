// Layers that several devices share (tensor parallelism, as Megatron splits them): each has some of the heads, and some
// of the values between an MLP's products. What the devices make of the same rows is added up on the first, which has
// all that is not split. One thread starts the work of all; on GPUs it is done side by side.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "nn/attention.h"
#include "nn/kv_cache.h"
#include "nn/mixer.h"
#include "nn/mlp.h"
#include "weights/state_dict.h"

namespace tte::nn {

// Attention over weights.devices(), whose number divides both heads and kv_heads.
class TensorParallelAttention final : public Mixer {
 public:
  TensorParallelAttention(const weights::StateDict& weights, const AttentionShape& shape, std::int64_t cache);

  [[nodiscard]] at::Tensor mix(const at::Tensor& x, const Step& step) const override;
  [[nodiscard]] at::Tensor mix_selected(const at::Tensor& x, const Step& step,
                                        const Selection& selection) const override;

 private:
  std::vector<at::Device> devices_;
  std::vector<Attention> parts_;
};

// GatedMlp over weights.devices(), whose number divides `intermediate`.
class TensorParallelMlp final : public FeedForward {
 public:
  TensorParallelMlp(const weights::StateDict& weights, std::int64_t hidden, std::int64_t intermediate);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const override;

 private:
  std::vector<at::Device> devices_;
  std::vector<GatedMlp> parts_;
};

// What the step is on each further device of the pool.
std::vector<Step> further_steps(const Step& step, KvPool& pool);

}  // namespace tte::nn
