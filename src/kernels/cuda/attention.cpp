// Attention on CUDA: ATen's flash kernels for the two-byte types, scaled_dot_product_attention sequence by
// sequence for float32 and for what the flash kernels do not take.
//
// The flash kernels are called as at::cuda's, past the dispatcher: torch.nn.attention's
// activate_flash_attention_impl() puts Python code in the dispatcher's place of that operator.
#include <ATen/ATen.h>
#include <ATen/ops/_flash_attention_forward_cuda_dispatch.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <array>

#include "kernels/cuda/cuda_kernels.h"

namespace tte::kernels::cuda {
namespace {

bool takes_flash(at::Device device, at::ScalarType type, std::int64_t head_dim) {
  return type != at::kFloat && head_dim % 8 == 0 && head_dim <= 256 &&
         compute_capability(device.index()) >= 80;
}
bool takes_flash(const at::Tensor& q) {
  return takes_flash(q.device(), q.scalar_type(), q.size(2));
}

std::int64_t longest(const std::vector<std::int32_t>& cu_seqlens) {
  std::int32_t most = 0;
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i)
    most = std::max(most, cu_seqlens[i + 1] - cu_seqlens[i]);
  return most;
}

std::vector<std::int32_t> cumulative(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> sums{0};
  for (const std::int32_t length : lengths) sums.push_back(sums.back() + length);
  return sums;
}

at::Tensor flat_heads(const at::Tensor& out) {
  return out.reshape({out.size(0), out.size(1) * out.size(2)});
}

at::Tensor flash(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const std::vector<std::int32_t>& cu_queries, const std::vector<std::int32_t>& cu_keys,
                 bool causal, double scale) {
  return flat_heads(std::get<0>(at::cuda::_flash_attention_forward(
      q, k, v, on_device(cu_queries, q.device()), on_device(cu_keys, q.device()), longest(cu_queries),
      longest(cu_keys), 0.0, causal, false, scale)));
}

// In how many parts flash attention reads a paged sequence. Left unset from torch 2.13 on, it chooses, and
// merges the parts of a ragged step into wrong rows (pytorch/pytorch#194167); earlier it reads pages in one
// part and takes no number. One part also keeps a row's result independent of the rest of the batch.
constexpr std::optional<std::int64_t> kParts =
    TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 213 ? std::optional<std::int64_t>(1) : std::nullopt;

// Whether this torch's flash attention has the paged form.
template <typename Tensor>
constexpr bool kHasPages = requires(const Tensor& x, const std::optional<Tensor>& none) {
  at::cuda::_flash_attention_forward(x, x, x, none, none, 1, 1, 0.0, true, false, 1.0, std::nullopt,
                                     std::nullopt, none, none, none, kParts);
};

template <typename Tensor>
at::Tensor flash_paged(const Tensor& q, const PagedCache& cache, const PagedBatch& batch,
                       const Tensor& block_table, double scale) {
  if constexpr (kHasPages<Tensor>) {
    const bool there = batch.device_lengths.defined();
    const Tensor rows = there ? batch.device_cu_seqlens : on_device(batch.cu_seqlens, q.device());
    const Tensor lengths = there ? batch.device_lengths : on_device(batch.lengths, q.device());
    const std::int64_t most = *std::max_element(batch.lengths.begin(), batch.lengths.end());
    // The lengths say where keys end, and the table where they begin: where they would without pages is not read.
    return flat_heads(std::get<0>(at::cuda::_flash_attention_forward(
        q, cache.keys, cache.values, rows, /*cum_seq_k=*/rows, longest(batch.cu_seqlens), most, 0.0, true,
        false, scale, std::nullopt, std::nullopt, lengths, std::nullopt, block_table, kParts)));
  } else {
    TORCH_CHECK(false, "this torch has no flash attention over pages");
  }
}

// One sequence: q [rows, heads, head_dim], k and v [length, kv_heads, head_dim]. With `causal`, row j sees
// the first length - rows + j + 1 tokens.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal, double scale) {
  const std::int64_t group = q.size(1) / k.size(1), rows = q.size(0), length = k.size(0);
  const auto heads_first = [](const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  std::optional<at::Tensor> mask;
  if (causal && rows > 1) {
    mask =
        at::ones({rows, length}, at::TensorOptions().dtype(at::kBool).device(q.device())).tril(length - rows);
  }
  const at::Tensor out =
      at::scaled_dot_product_attention(heads_first(q), heads_first(k.repeat_interleave(group, 1)),
                                       heads_first(v.repeat_interleave(group, 1)), mask, 0.0, false, scale);
  return flat_heads(out.squeeze(0).transpose(0, 1));
}

// The first `length` tokens of a sequence, [length, kv_heads, head_dim].
at::Tensor gather(const at::Tensor& pages, const at::Tensor& block_row, std::int64_t length) {
  const std::int64_t blocks = (length + pages.size(1) - 1) / pages.size(1);
  return pages.index_select(0, block_row.narrow(0, 0, blocks)).flatten(0, 1).narrow(0, 0, length);
}

// Without the sequences that have no rows in this step, which flash attention's one-row form cannot skip.
struct Compact {
  PagedBatch batch;
  at::Tensor block_table;
};
Compact compact(const PagedBatch& batch) {
  Compact result{batch, batch.block_table};
  std::vector<std::int64_t> kept;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    if (batch.cu_seqlens[i + 1] > batch.cu_seqlens[i]) kept.push_back(static_cast<std::int64_t>(i));
  }
  const auto sequences = static_cast<std::int64_t>(batch.lengths.size());
  if (kept.size() == batch.lengths.size()) {
    result.block_table = result.block_table.narrow(0, 0, sequences);
    return result;
  }
  result.batch.cu_seqlens = {0};
  result.batch.lengths.clear();
  for (const std::int64_t i : kept) {
    result.batch.cu_seqlens.push_back(batch.cu_seqlens[static_cast<std::size_t>(i) + 1]);
    result.batch.lengths.push_back(batch.lengths[static_cast<std::size_t>(i)]);
  }
  result.block_table =
      result.block_table.index_select(0, upload(at::tensor(kept, at::kLong), batch.block_table.device()));
  return result;
}

}  // namespace

at::Tensor on_device(const std::vector<std::int32_t>& values, at::Device device) {
  struct Entry {
    std::vector<std::int32_t> values;
    at::Tensor tensor;
  };
  thread_local std::array<Entry, 32> entries;  // A few for each of the devices that share a layer.
  thread_local std::size_t next = 0;
  for (const Entry& entry : entries) {
    if (entry.tensor.defined() && entry.tensor.device() == device && entry.values == values)
      return entry.tensor;
  }
  Entry& entry = entries[next++ % entries.size()];
  entry.tensor = upload(at::tensor(values, at::kInt), device);
  entry.values = values;
  return entry.tensor;
}

bool reads_device_lengths(at::Device device, at::ScalarType type, std::int64_t head_dim) {
  return kHasPages<at::Tensor> && takes_flash(device, type, head_dim);
}

at::Tensor attention(const at::Tensor& q_tensor, const at::Tensor& k_tensor, const at::Tensor& v_tensor,
                     const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale) {
  const at::Tensor q = dense_rows(q_tensor), k = dense_rows(k_tensor), v = dense_rows(v_tensor);
  const c10::cuda::CUDAGuard guard(q.device());
  if (q.size(0) == 0) return at::empty({0, q.size(1) * q.size(2)}, q.options());
  if (takes_flash(q)) {
    // Without empty sequences, which flash attention's one-row form cannot skip.
    std::vector<std::int32_t> borders = cu_seqlens;
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    return flash(q, k, v, borders, borders, causal, scale);
  }
  at::Tensor out = at::empty({q.size(0), q.size(1) * q.size(2)}, q.options());
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const std::int64_t begin = cu_seqlens[i], rows = cu_seqlens[i + 1] - begin;
    if (rows == 0) continue;
    out.narrow(0, begin, rows)
        .copy_(attend(q.narrow(0, begin, rows), k.narrow(0, begin, rows), v.narrow(0, begin, rows), causal,
                      scale));
  }
  return out;
}

at::Tensor paged_attention(const at::Tensor& q_tensor, const PagedCache& cache, const PagedBatch& whole_batch,
                           double scale) {
  const at::Tensor q = dense_rows(q_tensor);
  const c10::cuda::CUDAGuard guard(q.device());
  if (q.size(0) == 0) return at::empty({0, q.size(1) * q.size(2)}, q.options());
  const auto [batch, block_table] = compact(whole_batch);
  if (takes_flash(q) && kHasPages<at::Tensor> && cache.keys.size(1) % kCacheBlockSize == 0)
    return flash_paged(q, cache, batch, block_table, scale);
  TORCH_CHECK(!batch.device_lengths.defined(), "paged_attention: ", q.scalar_type(), " heads of ", q.size(2),
              " are computed by lengths on the host");
  std::vector<at::Tensor> keys, values;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const at::Tensor block_row = block_table.select(0, static_cast<std::int64_t>(i));
    keys.push_back(gather(cache.keys, block_row, batch.lengths[i]));
    values.push_back(gather(cache.values, block_row, batch.lengths[i]));
  }
  if (takes_flash(q)) {
    return flash(q, at::cat(keys), at::cat(values), batch.cu_seqlens, cumulative(batch.lengths), true, scale);
  }
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const std::int64_t begin = batch.cu_seqlens[i], rows = batch.cu_seqlens[i + 1] - begin;
    parts.push_back(attend(q.narrow(0, begin, rows), keys[i], values[i], true, scale));
  }
  return at::cat(parts);
}

}  // namespace tte::kernels::cuda
