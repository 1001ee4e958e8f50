// out = x * weight^T + bias on the CPU, by run-time dispatch to the widest vectors of the host.
//
// Every element of the result is one dot product whose order of additions depends on nothing but `k` (and the host's
// vector width): a row gives the same bits whatever rows stand beside it and however the work is split.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

namespace tte::kernels::simd {

struct Gemm {
  Type type = Type::kFloat;  // Weight and bias have it.
  std::int64_t rows = 0;     // x has these.
  std::int64_t k = 0;
  const void* x = nullptr;         // Packed by pack_rows().
  const void* weight = nullptr;    // [n, k], rows dense.
  std::int64_t weight_stride = 0;  // Elements between its rows.
  const void* bias = nullptr;      // [n] or null.
  Type out_type = Type::kFloat;    // `type`, or float32.
  void* out = nullptr;             // [rows, n], rows dense.
  std::int64_t out_stride = 0;
};

// Bytes that pack_rows() writes for `rows` rows of k values.
std::size_t packed_bytes(Type type, std::int64_t rows, std::int64_t k);
// How many rows are packed together: pack_rows() may be called for parts that begin at a multiple of it.
std::int64_t pack_group();
// Puts rows [begin, end) of x [rows, k] into the order in which the kernel reads them, widened to float32
// unless pairs of it are multiplied (bfloat16, see host.h).
void pack_rows(Type type, const void* x, std::int64_t x_stride, std::int64_t rows, std::int64_t k,
               std::int64_t begin, std::int64_t end, void* packed);

// Computes columns [begin, end) of out for the rows [row_begin, row_end), which begin at a multiple of
// pack_group(). scratch holds (row_end - row_begin) * (end - begin) floats.
void gemm(const Gemm& gemm, std::int64_t row_begin, std::int64_t row_end, std::int64_t begin,
          std::int64_t end, float* scratch);

}  // namespace tte::kernels::simd
