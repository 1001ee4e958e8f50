// The pre-norm decoder layer of Llama-like language models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/kernels.h"
#include "nn/attention.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "weights/state_dict.h"

namespace tte::nn {

// Reads input_layernorm, self_attn.*, post_attention_layernorm, mlp.*.
//
// The stream of hidden states travels as `residual` and a `delta` that is still to be added: every addition
// happens together with the norm that follows it, in one pass over memory. The hidden states are residual +
// delta.
class DecoderLayer {
 public:
  DecoderLayer(const weights::StateDict& weights, const AttentionShape& shape, std::int64_t intermediate,
               double eps);

  // Adds `delta` (undefined before the first layer) to `residual` [rows, hidden] and returns the next delta.
  [[nodiscard]] at::Tensor operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step,
                                      kernels::PagedCache& cache) const;
  // The same for a layer after which only some rows are wanted: residual shrinks to them (to no
  // row, and so does the delta, where none is). The keys and values of all rows are stored.
  [[nodiscard]] at::Tensor operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step,
                                      const Selection& selection, kernels::PagedCache& cache) const;

 private:
  [[nodiscard]] at::Tensor normed_input(at::Tensor& residual, const at::Tensor& delta) const;

  RmsNorm input_norm_, attention_norm_;
  Attention attention_;
  GatedMlp mlp_;
};

}  // namespace tte::nn
