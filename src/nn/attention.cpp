#include "nn/attention.h"

#include <ATen/ATen.h>

#include <cmath>

namespace tte::nn {

Attention::Attention(const weights::StateDict& weights, const AttentionShape& shape, std::int64_t cache)
    : shape_(shape),
      cache_(static_cast<std::size_t>(cache)),
      scale_(1.0 / std::sqrt(static_cast<double>(shape.head_dim))),
      qkv_(Linear::stacked(
          weights, {"q_proj", "k_proj", "v_proj"}, shape.hidden,
          {shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.kv_heads * shape.head_dim})),
      q_(qkv_.outputs(0, shape.heads * shape.head_dim)),
      kv_(qkv_.outputs(shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim)),
      out_(weights, "o_proj", shape.heads * shape.head_dim, shape.hidden) {
  if (!shape.qk_norm) return;
  q_norm_.emplace(weights, "q_norm", shape.head_dim, *shape.qk_norm);
  k_norm_.emplace(weights, "k_norm", shape.head_dim, *shape.qk_norm);
}

at::Tensor Attention::heads(const at::Tensor& projected, std::int64_t first, std::int64_t count) const {
  return projected.narrow(1, first * shape_.head_dim, count * shape_.head_dim)
      .view({projected.size(0), count, shape_.head_dim});
}

at::Tensor Attention::mix(const at::Tensor& x, const Step& step) const {
  const at::Tensor qkv = qkv_(x);
  at::Tensor q = heads(qkv, 0, shape_.heads), k = heads(qkv, shape_.heads, shape_.kv_heads);
  if (q_norm_) {
    q = (*q_norm_)(q);
    k = (*k_norm_)(k);
    kernels::rope_(q, step.rope.cos, step.rope.sin);
    kernels::rope_(k, step.rope.cos, step.rope.sin);
  } else {
    at::Tensor both = heads(qkv, 0, shape_.heads + shape_.kv_heads);  // In one call.
    kernels::rope_(both, step.rope.cos, step.rope.sin);
  }
  kernels::PagedCache& cache = step.caches[cache_];
  kernels::store_kv(k, heads(qkv, shape_.heads + shape_.kv_heads, shape_.kv_heads), cache, step.batch);
  return out_(kernels::paged_attention(q, cache, step.batch, scale_));
}

at::Tensor Attention::mix_selected(const at::Tensor& x, const Step& step, const Selection& selection) const {
  const at::Tensor kv = kv_(x);
  at::Tensor k = heads(kv, 0, shape_.kv_heads);
  if (k_norm_) k = (*k_norm_)(k);
  kernels::rope_(k, step.rope.cos, step.rope.sin);
  kernels::PagedCache& cache = step.caches[cache_];
  kernels::store_kv(k, heads(kv, shape_.kv_heads, shape_.kv_heads), cache, step.batch);
  if (selection.rows.size(0) == 0) return x.narrow(0, 0, 0);
  at::Tensor q = heads(q_(x.index_select(0, selection.rows)), 0, shape_.heads);
  if (q_norm_) q = (*q_norm_)(q);
  kernels::rope_(q, selection.step.rope.cos, selection.step.rope.sin);
  return out_(kernels::paged_attention(q, cache, selection.step.batch, scale_));
}

}  // namespace tte::nn
