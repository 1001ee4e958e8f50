// Linear attention: a causal convolution and the gated delta rule over a memory of fixed size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "nn/linear.h"
#include "nn/mixer.h"
#include "nn/norm.h"
#include "weights/state_dict.h"

namespace tte::nn {

struct DeltaNetShape {
  std::int64_t hidden = 0;
  std::int64_t key_heads = 0;
  std::int64_t value_heads = 0;  // A multiple of key_heads: each key serves as many neighbouring values.
  std::int64_t key_dim = 0;      // Per head.
  std::int64_t value_dim = 0;
  std::int64_t conv_width = 0;
  double eps = 1e-6;  // For the norm of what is read from the memory.

  // Channels of the convolution: queries, keys and values.
  [[nodiscard]] std::int64_t channels() const { return 2 * key_heads * key_dim + value_heads * value_dim; }
};

// The gated delta net of Qwen3.5: in_proj_qkv, in_proj_z, in_proj_b, in_proj_a (one stacked product), conv1d,
// A_log, dt_bias, norm (gated by z) and out_proj. What it keeps of sequence i lies in
// Step::recurrent[cache] at Step::slots[i].
class GatedDeltaNet final : public Mixer {
 public:
  GatedDeltaNet(const weights::StateDict& weights, const DeltaNetShape& shape, std::int64_t cache);

  [[nodiscard]] at::Tensor mix(const at::Tensor& x, const Step& step) const override;
  [[nodiscard]] at::Tensor mix_selected(const at::Tensor& x, const Step& step,
                                        const Selection& selection) const override;

 private:
  DeltaNetShape shape_;
  std::size_t cache_;
  Linear gates_, in_;
  at::Tensor conv_;  // [conv_width, channels]
  at::Tensor rate_;  // float32 [value_heads]: how fast the memory fades, as a logarithm.
  at::Tensor dt_bias_;
  RmsNorm norm_;
  Linear out_;
};

}  // namespace tte::nn
