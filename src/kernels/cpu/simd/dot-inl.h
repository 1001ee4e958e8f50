// Tiles of dot products: what matrix products and attention scores are made of. Compiled once per instruction set.
//
// One dot product is a vector of partial sums that runs over k in steps, whose lanes are added in one fixed
// order at the end. Tiles of any shape add in that order, so a product's bits do not depend on what is
// computed beside it.
#if defined(TTE_KERNELS_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TTE_KERNELS_DOT_INL_H_
#undef TTE_KERNELS_DOT_INL_H_
#else
#define TTE_KERNELS_DOT_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {

// A tile is kGroup rows of x by kTile rows of the weight. Its accumulators, kTile vectors of the weight, one
// of x and a mask fill the vector registers: 16, or 32 where vectors have 64 bytes.
inline constexpr std::size_t kGroup = 6;
inline constexpr std::size_t kTile = HWY_MAX_BYTES == 64 ? 4 : 2;

constexpr std::size_t steps_of(std::size_t k) {
  return (k + kStep - 1) / kStep;
}

// acc[m * N + n] += x[m] * w[n] over `steps` steps; x is packed [steps][M][kStep]. With kAhead, w comes from
// memory and what lies `ahead` values on, in the rows of the next tile, is asked for: hardware prefetchers
// lose the thread at the end of each row. x is widened to float32, or, where kPairs, as it is.
template <std::size_t M, std::size_t N, bool kAhead, class T>
HWY_INLINE void multiply(const float* HWY_RESTRICT x, const T* HWY_RESTRICT w, std::size_t w_stride,
                         std::size_t ahead, std::size_t steps, VF* HWY_RESTRICT acc) {
  for (std::size_t s = 0; s < steps; ++s) {
    VF ws[N];
    for (std::size_t n = 0; n < N; ++n) {
      if (kAhead) hwy::Prefetch(w + n * w_stride + ahead);
      ws[n] = load_first(w + n * w_stride);
    }
    for (std::size_t m = 0; m < M; ++m) {
      const VF v = keep(hn::LoadU(F(), x + m * kStep));
      for (std::size_t n = 0; n < N; ++n) acc[m * N + n] = hn::MulAdd(v, ws[n], acc[m * N + n]);
    }
    for (std::size_t n = 0; n < N; ++n) ws[n] = load_second(w + n * w_stride);
    for (std::size_t m = 0; m < M; ++m) {
      const VF v = keep(hn::LoadU(F(), x + m * kStep + kLanes));
      for (std::size_t n = 0; n < N; ++n) acc[m * N + n] = hn::MulAdd(v, ws[n], acc[m * N + n]);
    }
    x += M * kStep;
    w += kStep;
  }
}

#if TTE_KERNELS_PAIRS
template <std::size_t M, std::size_t N, bool kAhead>
HWY_INLINE void multiply(const BFloat16* HWY_RESTRICT x, const BFloat16* HWY_RESTRICT w, std::size_t w_stride,
                         std::size_t ahead, std::size_t steps, VF* HWY_RESTRICT acc) {
  for (std::size_t s = 0; s < steps; ++s) {
    VF ws[N];
    for (std::size_t n = 0; n < N; ++n) {
      if (kAhead) hwy::Prefetch(w + n * w_stride + ahead);
      ws[n] = load_bits(w + n * w_stride);
    }
    for (std::size_t m = 0; m < M; ++m) {
      const VF v = keep(load_bits(x + m * kStep));
      for (std::size_t n = 0; n < N; ++n) acc[m * N + n] = add_products_of_pairs(acc[m * N + n], v, ws[n]);
    }
    x += M * kStep;
    w += kStep;
  }
}
#endif

// c[m * c_stride + n] (+)= x[m] . w[n] over `count` values of k.
template <std::size_t M, std::size_t N, bool kAhead, class X, class T>
HWY_INLINE void tile(const X* HWY_RESTRICT x, const T* HWY_RESTRICT w, std::size_t w_stride,
                     std::size_t ahead, std::size_t count, bool first, float* HWY_RESTRICT c,
                     std::size_t c_stride) {
  VF acc[M * N];
  for (std::size_t i = 0; i < M * N; ++i) acc[i] = hn::Zero(F());
  const std::size_t steps = count / kStep, rest = count % kStep;
  multiply<M, N, kAhead>(x, w, w_stride, ahead, steps, acc);
  if (rest != 0) {
    T tail[N * kStep];
    std::memset(tail, 0, sizeof(tail));
    for (std::size_t n = 0; n < N; ++n) {
      std::memcpy(tail + n * kStep, w + n * w_stride + steps * kStep, rest * sizeof(T));
    }
    multiply<M, N, false>(x + steps * M * kStep, tail, kStep, 0, 1, acc);
  }
  const VF zero = hn::Zero(F());
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t n = 0; n < N; n += 4) {
      const VF* row = acc + m * N;
      float sums[4];
      sum_four(row[n], n + 1 < N ? row[n + 1] : zero, n + 2 < N ? row[n + 2] : zero,
               n + 3 < N ? row[n + 3] : zero, sums);
      float* target = c + m * c_stride + n;
      for (std::size_t i = 0; i < std::min<std::size_t>(4, N - n); ++i) {
        target[i] = first ? sums[i] : target[i] + sums[i];
      }
    }
  }
}

// c[m * c_stride + n] (+)= x[m] . w[n] for M rows of x, packed together, and all columns n.
template <std::size_t M, bool kAhead, class X, class T>
HWY_NOINLINE void group_rows(const X* x, const T* w, std::size_t w_stride, std::size_t count, bool first,
                             std::size_t columns, float* c, std::size_t c_stride) {
  // Few rows leave registers for more columns.
  constexpr std::size_t kWide = M == 1 ? 8 : M <= 3 && kTile < 4 ? 4 : kTile;
  std::size_t n = 0;
  for (; n + kWide <= columns; n += kWide) {
    // The last tile asks for what it reads anyway: the columns that follow are another thread's.
    const std::size_t ahead = n + 2 * kWide <= columns ? kWide * w_stride : 0;
    tile<M, kWide, kAhead>(x, w + n * w_stride, w_stride, ahead, count, first, c + n, c_stride);
  }
  for (; n < columns; ++n) tile<M, 1, false>(x, w + n * w_stride, w_stride, 0, count, first, c + n, c_stride);
}

template <class X, class T>
using GroupRows = void (*)(const X*, const T*, std::size_t, std::size_t, bool, std::size_t, float*,
                           std::size_t);

template <bool kAhead, class X, class T>
GroupRows<X, T> group_function(std::size_t rows) {
  static constexpr GroupRows<X, T> kFunctions[] = {
      group_rows<1, kAhead, X, T>, group_rows<2, kAhead, X, T>, group_rows<3, kAhead, X, T>,
      group_rows<4, kAhead, X, T>, group_rows<5, kAhead, X, T>, group_rows<6, kAhead, X, T>,
  };
  return kFunctions[rows - 1];
}

// Writes row `row` of a group of `together` packed rows: the values of x, widened, step by step.
template <class T>
HWY_INLINE void pack_row(const T* HWY_RESTRICT x, std::size_t k, std::size_t row, std::size_t together,
                         float* HWY_RESTRICT packed) {
  float* out = packed + row * kStep;
  for (std::size_t i = 0; i + kStep <= k; i += kStep, out += together * kStep)
    store_pair(load_pair(x + i), out);
  if (k % kStep != 0) store_pair(load_some(x + k / kStep * kStep, k % kStep), out);
}

#if TTE_KERNELS_PAIRS
// The same as it is.
HWY_INLINE void pack_row(const BFloat16* HWY_RESTRICT x, std::size_t k, std::size_t row, std::size_t together,
                         BFloat16* HWY_RESTRICT packed) {
  BFloat16* out = packed + row * kStep;
  for (std::size_t i = 0; i < k; i += kStep, out += together * kStep) {
    const std::size_t count = std::min(kStep, k - i);
    std::memcpy(out, x + i, count * sizeof(BFloat16));
    std::memset(out + count, 0, (kStep - count) * sizeof(BFloat16));
  }
}
#endif

}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TTE_KERNELS_DOT_INL_H_
