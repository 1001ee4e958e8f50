#include "nn/attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

namespace tte::nn {
namespace {

void rotate(const at::Tensor& heads, const RopeTable& rope) {
  at::Tensor rotated = heads.narrow(2, 0, rope.cos.size(1));
  kernels::rope_(rotated, rope.cos, rope.sin);
}

}  // namespace

Attention::Attention(const weights::StateDict& weights, const AttentionShape& shape, std::int64_t cache)
    : shape_(shape),
      cache_(static_cast<std::size_t>(cache)),
      query_columns_(shape.gated ? 2 * shape.heads : shape.heads),
      scale_(1.0 / std::sqrt(static_cast<double>(shape.head_dim))),
      qkv_(Linear::stacked(weights, {"q_proj", "k_proj", "v_proj"}, shape.hidden,
                           {query_columns_ * shape.head_dim, shape.kv_heads * shape.head_dim,
                            shape.kv_heads * shape.head_dim})),
      q_(qkv_.outputs(0, query_columns_ * shape.head_dim)),
      kv_(qkv_.outputs(query_columns_ * shape.head_dim, 2 * shape.kv_heads * shape.head_dim)),
      out_(weights, "o_proj", shape.heads * shape.head_dim, shape.hidden) {
  if (!shape.qk_norm) return;
  q_norm_.emplace(weights, "q_norm", shape.head_dim, *shape.qk_norm);
  k_norm_.emplace(weights, "k_norm", shape.head_dim, *shape.qk_norm);
}

at::Tensor Attention::heads(const at::Tensor& projected, std::int64_t columns, std::int64_t count) const {
  return projected.narrow(1, columns * shape_.head_dim, count * shape_.head_dim)
      .view({projected.size(0), count, shape_.head_dim});
}

Attention::Queries Attention::queries(const at::Tensor& projected) const {
  if (!shape_.gated) return {heads(projected, 0, shape_.heads), {}};
  const at::Tensor both = projected.narrow(1, 0, query_columns_ * shape_.head_dim)
                              .view({projected.size(0), shape_.heads, 2 * shape_.head_dim});
  return {both.narrow(2, 0, shape_.head_dim), both.narrow(2, shape_.head_dim, shape_.head_dim)};
}

at::Tensor Attention::project_out(const at::Tensor& attended, const at::Tensor& gate) const {
  if (!shape_.gated) return out_(attended);
  return out_(
      kernels::gated(attended.view(gate.sizes()), gate, kernels::Gate::kSigmoid).view(attended.sizes()));
}

at::Tensor Attention::mix(const at::Tensor& x, const Step& step) const {
  const at::Tensor qkv = qkv_(x);
  auto [q, gate] = queries(qkv);
  at::Tensor k = heads(qkv, query_columns_, shape_.kv_heads);
  if (q_norm_) {
    q = (*q_norm_)(q);
    k = (*k_norm_)(k);
  }
  if (q_norm_ || shape_.gated) {
    rotate(q, step.rope);
    rotate(k, step.rope);
  } else {
    rotate(heads(qkv, 0, shape_.heads + shape_.kv_heads), step.rope);  // In one call.
  }
  const at::Tensor v = heads(qkv, query_columns_ + shape_.kv_heads, shape_.kv_heads);
  if (shape_.bidirectional)
    return project_out(kernels::attention(q, k, v, step.batch.cu_seqlens, /*causal=*/false, scale_), gate);
  kernels::PagedCache& cache = step.caches[cache_];
  kernels::store_kv(k, v, cache, step.batch);
  return project_out(kernels::paged_attention(q, cache, step.batch, scale_), gate);
}

at::Tensor Attention::mix_selected(const at::Tensor& x, const Step& step, const Selection& selection) const {
  if (shape_.bidirectional) return mix(x, step).index_select(0, selection.rows);
  const at::Tensor kv = kv_(x);
  at::Tensor k = heads(kv, 0, shape_.kv_heads);
  if (k_norm_) k = (*k_norm_)(k);
  rotate(k, step.rope);
  kernels::PagedCache& cache = step.caches[cache_];
  kernels::store_kv(k, heads(kv, shape_.kv_heads, shape_.kv_heads), cache, step.batch);
  if (selection.rows.size(0) == 0) return x.narrow(0, 0, 0);
  auto [q, gate] = queries(q_(x.index_select(0, selection.rows)));
  if (q_norm_) q = (*q_norm_)(q);
  rotate(q, selection.step.rope);
  return project_out(kernels::paged_attention(q, cache, selection.step.batch, scale_), gate);
}

}  // namespace tte::nn
