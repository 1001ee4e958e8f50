#include "kernels/pages.h"

#include <cmath>

namespace tte::kernels::reference {

Pages make_pages(const std::vector<std::int32_t>& rows, const std::vector<std::int32_t>& lengths,
                 std::int64_t kv_heads, std::int64_t head_dim, at::ScalarType type, at::Device device) {
  const std::int64_t block_size = cache_block_size(device);
  const auto sequences = static_cast<std::int64_t>(lengths.size());
  std::int64_t most = 1, total = 0;
  for (const std::int32_t length : lengths) {
    const std::int64_t blocks = (length + block_size - 1) / block_size;
    most = std::max(most, blocks);
    total += blocks;
  }
  Pages pages;
  pages.cache.keys = at::full({total + 2, block_size, kv_heads, head_dim}, NAN,
                              at::TensorOptions().dtype(type).device(device));
  pages.cache.values = pages.cache.keys.clone();
  pages.batch.block_table = at::zeros({sequences, most}, at::kInt);
  PagedBatch earlier;
  earlier.cu_seqlens = pages.batch.cu_seqlens = {0};
  std::vector<std::int64_t> new_slots, old_slots;
  std::vector<at::Tensor> new_keys, new_values, old_keys, old_values;
  std::int64_t next = total + 1;  // Blocks from the last to the first.
  for (std::int64_t i = 0; i < sequences; ++i) {
    const std::int64_t length = lengths[i], old = length - rows[i];
    auto blocks = pages.batch.block_table.accessor<std::int32_t, 2>()[i];
    for (std::int64_t b = 0; b * block_size < length; ++b) blocks[b] = static_cast<std::int32_t>(next--);
    for (std::int64_t p = 0; p < length; ++p) {
      (p < old ? old_slots : new_slots).push_back(blocks[p / block_size] * block_size + p % block_size);
    }
    const at::Tensor kv = random({length, 2 * kv_heads, head_dim}, type, 100 + i);
    pages.keys.push_back(kv.narrow(1, 0, kv_heads));
    pages.values.push_back(kv.narrow(1, kv_heads, kv_heads));
    old_keys.push_back(pages.keys.back().narrow(0, 0, old));
    old_values.push_back(pages.values.back().narrow(0, 0, old));
    new_keys.push_back(pages.keys.back().narrow(0, old, rows[i]));
    new_values.push_back(pages.values.back().narrow(0, old, rows[i]));
    earlier.cu_seqlens.push_back(static_cast<std::int32_t>(old_slots.size()));
    earlier.lengths.push_back(static_cast<std::int32_t>(old));
    pages.batch.cu_seqlens.push_back(static_cast<std::int32_t>(new_slots.size()));
    pages.batch.lengths.push_back(lengths[i]);
  }
  earlier.block_table = pages.batch.block_table = pages.batch.block_table.to(device);
  earlier.slots = at::tensor(old_slots, at::kLong).to(device);
  pages.batch.slots = at::tensor(new_slots, at::kLong).to(device);
  store_kv(at::cat(old_keys).to(device), at::cat(old_values).to(device), pages.cache, earlier);
  store_kv(at::cat(new_keys).to(device), at::cat(new_values).to(device), pages.cache, pages.batch);
  return pages;
}

at::Tensor paged_attention(const at::Tensor& q, const Pages& pages, double scale) {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < pages.keys.size(); ++i) {
    const std::int64_t begin = pages.batch.cu_seqlens[i], rows = pages.batch.cu_seqlens[i + 1] - begin;
    if (rows > 0) {
      parts.push_back(attention(q.narrow(0, begin, rows), pages.keys[i], pages.values[i], true, scale));
    }
  }
  return at::cat(parts);
}

const std::vector<Step>& steps() {
  static const std::vector<Step> kSteps{
      {"one token", {1}, {1}},
      {"decode", {1, 1, 1}, {600, 1, 65}},
      {"block boundaries", {1, 1, 1, 1, 1}, {63, 64, 65, 127, 128}},
      {"prefill", {300}, {300}},
      {"chunked prefill", {70}, {300}},
      {"mixed", {1, 64, 3, 0, 17, 1}, {129, 64, 67, 40, 200, 7}},
  };
  return kSteps;
}

at::Tensor ragged_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale) {
  std::vector<at::Tensor> parts{at::empty({0, q.size(1) * q.size(2)}, at::kDouble)};
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const std::int64_t begin = cu_seqlens[i], rows = cu_seqlens[i + 1] - begin;
    if (rows == 0) continue;
    parts.push_back(attention(q.narrow(0, begin, rows), k.narrow(0, begin, rows), v.narrow(0, begin, rows),
                              causal, scale));
  }
  return at::cat(parts);
}

}  // namespace tte::kernels::reference
