#include "kernels/cpu/simd/attention.h"

#include <ATen/ATen.h>

#include <cstring>
#include <limits>
#include <memory>

#include "base/scratch.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/tensors.h"

namespace tte::kernels::cpu {
namespace {

// Rows of one head group of one sequence.
struct Unit {
  std::size_t head;  // Index into the list of head groups.
  std::size_t row_begin, row_end;
  std::size_t keys;
  [[nodiscard]] std::size_t work() const { return (row_end - row_begin) * keys; }
  [[nodiscard]] std::size_t chunks() const { return (keys + simd::kChunk - 1) / simd::kChunk; }
};

std::vector<Unit> make_units(const std::vector<simd::Attention>& heads) {
  std::vector<Unit> units;
  std::size_t rows = 0;
  for (const simd::Attention& a : heads) rows += a.rows * a.group;
  const std::size_t share = rows / (4 * static_cast<std::size_t>(at::get_num_threads()));
  for (std::size_t head = 0; head < heads.size(); ++head) {
    const simd::Attention& a = heads[head];
    const std::size_t step = std::max<std::size_t>(1, simd::unit_rows(a, share) / a.group);
    for (std::size_t row = 0; row < a.rows; row += step) {
      const std::size_t end = std::min(a.rows, row + step);
      units.push_back({head, row, end, simd::visible_keys(a, end)});
    }
  }
  // The largest first, so that none is left over for one thread at the end.
  std::stable_sort(units.begin(), units.end(),
                   [](const Unit& x, const Unit& y) { return x.work() > y.work(); });
  return units;
}

void run_whole(const std::vector<simd::Attention>& heads, const std::vector<Unit>& units) {
  for_units(static_cast<std::int64_t>(units.size()), [&](std::int64_t i) {
    const Unit& unit = units[static_cast<std::size_t>(i)];
    const simd::Attention& a = heads[unit.head];
    simd::attend(a, unit.row_begin, unit.row_end,
                 base::scratch(simd::attention_scratch_size(a, unit.row_end - unit.row_begin)));
  });
}

// A few long sequences: the threads share their chunks, and whoever finishes a unit's last chunk merges them.
void run_in_chunks(const std::vector<simd::Attention>& heads, const std::vector<Unit>& units) {
  struct Piece {
    std::size_t unit, chunk;
  };
  std::vector<Piece> pieces;
  std::vector<std::size_t> offsets;
  std::size_t size = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    const Unit& unit = units[u];
    for (std::size_t chunk = 0; chunk < unit.chunks(); ++chunk) pieces.push_back({u, chunk});
    offsets.push_back(size);
    size += unit.chunks() * simd::attention_partial_size(heads[unit.head], unit.row_end - unit.row_begin);
  }
  const auto partials = std::make_unique_for_overwrite<float[]>(size);
  const auto left = std::make_unique<std::atomic<std::size_t>[]>(units.size());
  for (std::size_t u = 0; u < units.size(); ++u) left[u] = units[u].chunks();
  for_units(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const Piece piece = pieces[static_cast<std::size_t>(i)];
    const Unit& unit = units[piece.unit];
    const simd::Attention& a = heads[unit.head];
    const std::size_t rows = unit.row_end - unit.row_begin;
    float* memory = base::scratch(simd::attention_scratch_size(a, rows));
    float* partial = partials.get() + offsets[piece.unit];
    simd::attend_chunk(a, unit.row_begin, unit.row_end, piece.chunk, memory,
                       partial + piece.chunk * simd::attention_partial_size(a, rows));
    if (--left[piece.unit] == 0) {
      simd::merge_chunks(a, unit.row_begin, unit.row_end, unit.chunks(), partial, memory);
    }
  });
}

void run(const std::vector<simd::Attention>& heads) {
  const std::vector<Unit> units = make_units(heads);
  if (units.empty()) return;
  const auto threads = static_cast<std::size_t>(at::get_num_threads());
  const bool few = units.size() < 2 * threads && threads > 1 && !at::in_parallel_region();
  if (few && units.front().chunks() > 1) {
    run_in_chunks(heads, units);
  } else {
    run_whole(heads, units);
  }
}

// What all head groups of a call have in common.
simd::Attention common(const at::Tensor& q, std::int64_t kv_heads, double scale, bool causal,
                       const at::Tensor& out) {
  simd::Attention a;
  a.type = type_of(q);
  a.head_dim = static_cast<std::size_t>(q.size(2));
  a.group = static_cast<std::size_t>(q.size(1) / kv_heads);
  a.causal = causal;
  a.scale = static_cast<float>(scale);
  a.q_row_stride = static_cast<std::size_t>(q.stride(0));
  a.q_head_stride = static_cast<std::size_t>(q.stride(1));
  a.out_row_stride = static_cast<std::size_t>(out.stride(0));
  return a;
}

void set_rows(simd::Attention& a, const at::Tensor& q, at::Tensor& out, std::int64_t begin, std::int64_t end,
              std::int64_t kv_head) {
  const std::int64_t head = kv_head * static_cast<std::int64_t>(a.group);
  a.rows = static_cast<std::size_t>(end - begin);
  a.q = at_element(q, begin * q.stride(0) + head * q.stride(1));
  a.out = at_mutable_element(out, begin * out.stride(0) + head * q.size(2));
}

}  // namespace

at::Tensor attention(const at::Tensor& q_tensor, const at::Tensor& k_tensor, const at::Tensor& v_tensor,
                     const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale) {
  const at::Tensor q = dense_rows(q_tensor), k = dense_rows(k_tensor), v = dense_rows(v_tensor);
  at::Tensor out = at::empty({q.size(0), q.size(1) * q.size(2)}, q.options());
  simd::Attention a = common(q, k.size(1), scale, causal, out);
  a.key_stride = static_cast<std::size_t>(k.stride(0));
  a.value_stride = static_cast<std::size_t>(v.stride(0));
  std::vector<simd::Attention> heads;
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const std::int64_t begin = cu_seqlens[i], end = cu_seqlens[i + 1];
    TORCH_CHECK(begin <= end, "attention: cu_seqlens fall from ", begin, " to ", end);
    a.length = static_cast<std::size_t>(end - begin);
    for (std::int64_t head = 0; head < k.size(1) && begin < end; ++head) {
      set_rows(a, q, out, begin, end, head);
      a.keys = at_element(k, begin * k.stride(0) + head * k.stride(1));
      a.values = at_element(v, begin * v.stride(0) + head * v.stride(1));
      heads.push_back(a);
    }
  }
  run(heads);
  return out;
}

void store_kv(const at::Tensor& k_tensor, const at::Tensor& v_tensor, PagedCache& cache,
              const PagedBatch& batch) {
  const at::Tensor k = dense_rows(k_tensor), v = dense_rows(v_tensor);
  const std::int64_t kv_heads = k.size(1), slot_count = cache.keys.size(0) * cache.keys.size(1);
  const std::int64_t head_bytes = k.size(2) * k.element_size();
  const auto* slots = batch.slots.const_data_ptr<std::int64_t>();
  for (std::int64_t row = 0; row < k.size(0); ++row) {
    TORCH_CHECK(slots[row] >= 0 && slots[row] < slot_count, "store_kv: slot ", slots[row], " of row ", row,
                " is outside the cache of ", slot_count, " slots");
  }
  const auto store_row = [&](const at::Tensor& from, at::Tensor& to, std::int64_t row) {
    auto* target = static_cast<char*>(at_mutable_element(to, slots[row] * to.stride(1)));
    for (std::int64_t head = 0; head < kv_heads; ++head) {
      std::memcpy(target + head * head_bytes, at_element(from, row * from.stride(0) + head * from.stride(1)),
                  static_cast<std::size_t>(head_bytes));
    }
  };
  at::parallel_for(0, k.size(0), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      store_row(k, cache.keys, row);
      store_row(v, cache.values, row);
    }
  });
}

at::Tensor paged_attention(const at::Tensor& q_tensor, const PagedCache& cache, const PagedBatch& batch,
                           double scale) {
  const at::Tensor q = dense_rows(q_tensor);
  at::Tensor out = at::empty({q.size(0), q.size(1) * q.size(2)}, q.options());
  const std::int64_t block_size = cache.keys.size(1), kv_heads = cache.keys.size(2),
                     head_dim = cache.keys.size(3);
  simd::Attention a = common(q, kv_heads, scale, true, out);
  a.key_stride = a.value_stride = static_cast<std::size_t>(kv_heads * head_dim);
  a.block_size = static_cast<std::size_t>(block_size);
  std::vector<simd::Attention> heads;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const std::int64_t begin = batch.cu_seqlens[i], end = batch.cu_seqlens[i + 1];
    if (begin == end) continue;
    a.length = static_cast<std::size_t>(batch.lengths[i]);
    a.blocks = batch.block_table.const_data_ptr<std::int32_t>() +
               static_cast<std::int64_t>(i) * batch.block_table.stride(0);
    for (std::int64_t b = 0; b * block_size < batch.lengths[i]; ++b) {
      TORCH_CHECK(a.blocks[b] >= 0 && a.blocks[b] < cache.keys.size(0), "paged_attention: block ",
                  a.blocks[b], " of sequence ", i, " is outside the cache of ", cache.keys.size(0),
                  " blocks");
    }
    for (std::int64_t head = 0; head < kv_heads; ++head) {
      set_rows(a, q, out, begin, end, head);
      a.keys = at_element(cache.keys, head * head_dim);
      a.values = at_element(cache.values, head * head_dim);
      heads.push_back(a);
    }
  }
  run(heads);
  return out;
}

}  // namespace tte::kernels::cpu
