// The recurrence of a gated delta net, for some columns of the values of one head.
#pragma once

#include <cstddef>

namespace tte::kernels::simd {

// How many columns of a head's memory one call works on: with keys of 128 values they fit the first-level cache.
inline constexpr std::size_t kDeltaColumns = 32;

// Strides are in floats, from one row to the next.
struct DeltaRule {
  std::size_t rows = 0;
  std::size_t key_dim = 0;
  std::size_t columns = 0;   // At most kDeltaColumns.
  const float* q = nullptr;  // Row t has key_dim values at t * qk_stride.
  const float* k = nullptr;
  std::size_t qk_stride = 0;
  const float* decay = nullptr;  // Row t has one value at t * gate_stride.
  const float* beta = nullptr;
  std::size_t gate_stride = 0;
  const float* v = nullptr;  // Row t has `columns` values at t * value_stride; so has out.
  float* out = nullptr;
  std::size_t value_stride = 0;
  float* memory = nullptr;  // [key_dim, columns], rows memory_stride apart.
  std::size_t memory_stride = 0;
};

// Each column is computed by itself, one row after the other: results do not depend on how a sequence is cut
// into calls, or its columns into pieces. `scratch` has key_dim * kDeltaColumns floats, aligned to cache lines.
void delta_rule(const DeltaRule& rule, float* scratch);

// out = x / sqrt(sum of x^2 + eps) * scale; n values.
void l2_normalize(const float* x, float eps, float scale, std::size_t n, float* out);

}  // namespace tte::kernels::simd
