// Attention on the CPU: online softmax over blocks of keys, float32 throughout.
//
// Keys are taken in blocks of 64 at positions that are multiples of 64, and every kChunk keys the running
// result is merged into the total: a query row's bits depend on its own keys only, whatever rows are computed
// beside it, and whether the chunks were computed by one thread or by several.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

namespace tte::kernels::simd {

// One key/value head of one sequence with the query heads that share it. Strides are in elements.
struct Attention {
  Type type = Type::kFloat;
  std::size_t head_dim = 0;
  std::size_t group = 1;   // Query heads per key/value head.
  std::size_t rows = 0;    // Query rows.
  std::size_t length = 0;  // Keys.
  bool causal = false;     // Row j sees the first length - rows + j + 1 keys, else all.
  float scale = 1.0f;
  const void* q = nullptr;  // The first row's first head of the group; heads are head_stride apart.
  std::size_t q_row_stride = 0, q_head_stride = 0;
  const void* keys = nullptr;  // The head's part of token 0 (of block 0 if paged).
  const void* values = nullptr;
  std::size_t key_stride = 0, value_stride = 0;  // Between tokens.
  // Paged: token t is token t % block_size of block blocks[t / block_size].
  const std::int32_t* blocks = nullptr;
  std::size_t block_size = 0;
  void* out = nullptr;  // As q, dense heads: row r, head h at r * out_row_stride + h * head_dim.
  std::size_t out_row_stride = 0;
};

inline constexpr std::size_t kChunk = 256;  // Keys between merges.

// Rows times group that one call should have. Without pages each call transposes the keys for itself: more
// rows make that worth it, up to a thread's share of all and what the second-level cache has room for.
inline std::size_t unit_rows(const Attention& attention, std::size_t share) {
  return attention.blocks == nullptr ? std::clamp<std::size_t>(share, 192, 512) : 64;
}

// Keys that rows before row_end see.
std::size_t visible_keys(const Attention& attention, std::size_t row_end);

// Floats that attend() needs as scratch for `rows` query rows, and that it writes as one partial result.
std::size_t attention_scratch_size(const Attention& attention, std::size_t rows);
std::size_t attention_partial_size(const Attention& attention, std::size_t rows);

// Rows [row_begin, row_end) over all their keys, written to out.
void attend(const Attention& attention, std::size_t row_begin, std::size_t row_end, float* scratch);

// The same in parts: chunk number `chunk` alone, written to `partial`; and all chunks' partial results, one
// after another, merged into out.
void attend_chunk(const Attention& attention, std::size_t row_begin, std::size_t row_end, std::size_t chunk,
                  float* scratch, float* partial);
void merge_chunks(const Attention& attention, std::size_t row_begin, std::size_t row_end, std::size_t chunks,
                  float* partials, float* scratch);

}  // namespace tte::kernels::simd
