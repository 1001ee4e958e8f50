#include <ATen/ATen.h>

#include "kernels/cpu/cpu_kernels.h"

namespace tte::kernels::cpu {
namespace {

// One sequence: q [rows, heads, head_dim], k and v [length, kv_heads, head_dim], mask [rows, length] (true:
// seen).
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const std::optional<at::Tensor>& mask, double scale) {
  const std::int64_t group = q.size(1) / k.size(1);
  auto heads_first = [](const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  const at::Tensor out =
      at::scaled_dot_product_attention(heads_first(q), heads_first(k.repeat_interleave(group, 1)),
                                       heads_first(v.repeat_interleave(group, 1)), mask, 0.0, false, scale);
  return out.squeeze(0).transpose(0, 1).reshape({q.size(0), q.size(1) * q.size(2)});
}

// Row j of `rows` sees the first length - rows + j + 1 of `length` tokens.
at::Tensor causal_mask(std::int64_t rows, std::int64_t length) {
  return at::ones({rows, length}, at::kBool).tril(length - rows);
}

}  // namespace

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale) {
  at::Tensor out = at::empty({q.size(0), q.size(1) * q.size(2)}, q.options());
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const std::int64_t begin = cu_seqlens[i], rows = cu_seqlens[i + 1] - begin;
    if (rows == 0) continue;
    std::optional<at::Tensor> mask;
    if (causal) mask = causal_mask(rows, rows);
    out.narrow(0, begin, rows)
        .copy_(attend(q.narrow(0, begin, rows), k.narrow(0, begin, rows), v.narrow(0, begin, rows), mask,
                      scale));
  }
  return out;
}

void store_kv(const at::Tensor& k, const at::Tensor& v, PagedCache& cache, const PagedBatch& batch) {
  cache.keys.view({-1, k.size(1), k.size(2)}).index_copy_(0, batch.slots, k);
  cache.values.view({-1, v.size(1), v.size(2)}).index_copy_(0, batch.slots, v);
}

at::Tensor paged_attention(const at::Tensor& q, const PagedCache& cache, const PagedBatch& batch,
                           double scale) {
  at::Tensor out = at::empty({q.size(0), q.size(1) * q.size(2)}, q.options());
  const std::int64_t block_size = cache.keys.size(1), kv_heads = cache.keys.size(2),
                     head_dim = cache.keys.size(3);
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const std::int64_t begin = batch.cu_seqlens[i], rows = batch.cu_seqlens[i + 1] - begin;
    const std::int64_t length = batch.lengths[i];
    if (rows == 0) continue;
    const at::Tensor blocks = batch.block_table[static_cast<std::int64_t>(i)]
                                  .narrow(0, 0, (length + block_size - 1) / block_size)
                                  .to(at::kLong);
    auto gather = [&](const at::Tensor& pages) {
      return pages.index_select(0, blocks).reshape({-1, kv_heads, head_dim}).narrow(0, 0, length);
    };
    out.narrow(0, begin, rows)
        .copy_(attend(q.narrow(0, begin, rows), gather(cache.keys), gather(cache.values),
                      causal_mask(rows, length), scale));
  }
  return out;
}

}  // namespace tte::kernels::cpu
