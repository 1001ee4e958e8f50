// The pre-norm decoder layer of Llama-like language models.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "nn/mixer.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "weights/state_dict.h"

namespace tte::nn {

// Reads input_layernorm and post_attention_layernorm; the mixer (attention, say) and the MLP are made by the family.
//
// The stream of hidden states travels as `residual` and a `delta` that is still to be added: every addition happens
// together with the norm that follows it, in one pass over memory. The hidden states are residual + delta.
class DecoderLayer {
 public:
  DecoderLayer(const weights::StateDict& weights, std::unique_ptr<const Mixer> mixer,
               std::unique_ptr<const FeedForward> mlp, std::int64_t hidden, const RmsNormOptions& norm);

  // Adds `delta` (undefined before the first layer) to `residual` [rows, hidden] and returns the next delta.
  [[nodiscard]] at::Tensor operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step) const;
  // The same for a layer after which only some rows are wanted: residual shrinks to them (to no
  // row, and so does the delta, where none is). What later tokens need of all rows is kept.
  [[nodiscard]] at::Tensor operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step,
                                      const Selection& selection) const;

 private:
  [[nodiscard]] at::Tensor normed_input(at::Tensor& residual, const at::Tensor& delta) const;

  RmsNorm input_norm_, mlp_norm_;
  std::unique_ptr<const Mixer> mixer_;
  std::unique_ptr<const FeedForward> mlp_;
};

}  // namespace tte::nn
