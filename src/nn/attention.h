// Self-attention of decoders, over the paged cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/kernels.h"
#include "nn/linear.h"
#include "nn/mixer.h"
#include "nn/norm.h"
#include "weights/state_dict.h"

namespace tte::nn {

struct AttentionShape {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::optional<RmsNormOptions> qk_norm = {};  // q_norm and k_norm of each head, before its rotation.
  // q_proj also has a gate behind each head's queries, whose sigmoid the head's result is multiplied with.
  bool gated = false;
  // A row sees all rows of its sequence, which are all in one step: nothing is kept for later ones.
  bool bidirectional = false;
};

// Grouped-query attention with rotary positions, of a head's first dimensions where Step::rope has fewer than a head:
// q_proj, k_proj, v_proj (one stacked product) and o_proj. Keys and values go to Step::caches[cache].
class Attention final : public Mixer {
 public:
  Attention(const weights::StateDict& weights, const AttentionShape& shape, std::int64_t cache);

  [[nodiscard]] at::Tensor mix(const at::Tensor& x, const Step& step) const override;
  [[nodiscard]] at::Tensor mix_selected(const at::Tensor& x, const Step& step,
                                        const Selection& selection) const override;

 private:
  // Parts of stacked products as heads, [rows, heads, head_dim], without a copy.
  struct Queries {
    at::Tensor q, gate;  // The gate is undefined where there is none.
  };
  [[nodiscard]] Queries queries(const at::Tensor& projected) const;  // The first columns.
  // `columns` in sizes of head_dim.
  [[nodiscard]] at::Tensor heads(const at::Tensor& projected, std::int64_t columns, std::int64_t count) const;
  [[nodiscard]] at::Tensor project_out(const at::Tensor& attended, const at::Tensor& gate) const;

  AttentionShape shape_;
  std::size_t cache_;
  std::int64_t query_columns_;  // The columns of q_proj, in multiples of head_dim.
  double scale_;
  Linear qkv_;
  Linear q_, kv_;  // The parts of qkv_, sharing its weights.
  Linear out_;
  std::optional<RmsNorm> q_norm_, k_norm_;
};

}  // namespace tte::nn
