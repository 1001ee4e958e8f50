// Operations on one row at a time: norms, activations and rotary embeddings. Each reads its row once from
// memory, computes in float32 and rounds where kernels.h says so.
#pragma once

#include <cstddef>

#include "kernels/kernels.h"
#include "kernels/types.h"

namespace tte::kernels::simd {

// All rows have n values of `type`, one after another.
void rms_norm(Type type, const void* x, const void* weight, float eps, bool one_plus, std::size_t n,
              void* out);
void add_rms_norm(Type type, void* residual, const void* delta, const void* weight, float eps, bool one_plus,
                  std::size_t n, void* out);
void layer_norm(Type type, const void* x, const void* weight, const void* bias, float eps, std::size_t n,
                void* out);
void silu_mul(Type type, const void* gate, const void* up, std::size_t n, void* out);
void activate(Type type, Activation activation, const void* x, std::size_t n, void* out);
void gated(Type type, Gate kind, const void* x, const void* gate, std::size_t n, void* out);
// taps: `width` rows, the last of which is the one that is computed; weight: `width` rows.
void conv_silu(Type type, const void* const* taps, const void* weight, std::size_t width, std::size_t n,
               void* out);
// Rotates `heads` heads of head_dim values that begin `head_stride` values apart.
void rope(Type type, void* x, std::size_t heads, std::size_t head_stride, const float* cos, const float* sin,
          std::size_t head_dim);

}  // namespace tte::kernels::simd
