#include "kernels/cpu/simd/panels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/panels.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/host.h"
#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

// Pairs of inputs whose part of a panel stays in the second-level cache while rows of x pass by.
constexpr std::size_t kBlockPairs = 1024;
// A tile of rows of x by vectors of outputs: its sums, the outputs' vectors and one of x fill the registers.
constexpr std::size_t kGroupRows = HWY_MAX_BYTES == 64 ? 6 : 3;
constexpr std::size_t kVectors = std::min<std::size_t>(HWY_MAX_BYTES == 64 ? 4 : 2, kPanelOutputs / kLanes);

// acc + the products of the pairs of bfloat16 values in each lane.
template <bool kInstruction>
HWY_INLINE VF add_pairs(VF acc, VF x, VF w) {
#if TTE_KERNELS_PAIRS
  if constexpr (kInstruction) return add_products_of_pairs(acc, x, w);
#endif
  const VU xs = hn::BitCast(U(), x), ws = hn::BitCast(U(), w);
  return hn::MulAdd(widen_even(xs), widen_even(ws), hn::MulAdd(widen_odd(xs), widen_odd(ws), acc));
}

HWY_INLINE VF pair_of(const std::uint16_t* p) {
  std::uint32_t value = 0;
  std::memcpy(&value, p, sizeof value);
  return hn::BitCast(F(), hn::Set(U(), value));
}

// c[m * kPanelOutputs + n] (+)= x[m] . w[n] over `pairs` pairs, for M rows of x and kVectors vectors of outputs.
template <bool kInstruction, std::size_t M>
HWY_INLINE void tile(const std::uint16_t* HWY_RESTRICT x, std::size_t x_stride,
                     const std::uint16_t* HWY_RESTRICT w, std::size_t pairs, bool first,
                     float* HWY_RESTRICT c) {
  VF acc[M * kVectors];
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t n = 0; n < kVectors; ++n)
      acc[m * kVectors + n] = first ? hn::Zero(F()) : hn::Load(F(), c + m * kPanelOutputs + n * kLanes);
  }
  for (std::size_t pair = 0; pair < pairs; ++pair, w += 2 * kPanelOutputs) {
    VF ws[kVectors];
    for (std::size_t n = 0; n < kVectors; ++n)
      ws[n] = load_bits(reinterpret_cast<const BFloat16*>(w) + 2 * n * kLanes);
    for (std::size_t m = 0; m < M; ++m) {
      const VF v = pair_of(x + m * x_stride + 2 * pair);
      for (std::size_t n = 0; n < kVectors; ++n)
        acc[m * kVectors + n] = add_pairs<kInstruction>(acc[m * kVectors + n], v, ws[n]);
    }
  }
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t n = 0; n < kVectors; ++n)
      hn::Store(acc[m * kVectors + n], F(), c + m * kPanelOutputs + n * kLanes);
  }
}

template <bool kInstruction, std::size_t M>
HWY_NOINLINE void group(const std::uint16_t* x, std::size_t x_stride, const std::uint16_t* w,
                        std::size_t pairs, bool first, float* c) {
  for (std::size_t n = 0; n < kPanelOutputs; n += kVectors * kLanes)
    tile<kInstruction, M>(x, x_stride, w + 2 * n, pairs, first, c + n);
}

template <bool kInstruction>
void gemm(const PanelGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel, float* scratch) {
  using Function =
      void (*)(const std::uint16_t*, std::size_t, const std::uint16_t*, std::size_t, bool, float*);
  static constexpr Function kFunctions[] = {group<kInstruction, 1>, group<kInstruction, 2>,
                                            group<kInstruction, 3>, group<kInstruction, 4>,
                                            group<kInstruction, 5>, group<kInstruction, 6>};
  const std::uint16_t* weight = g.panels + panel * g.k * kPanelOutputs;
  const std::size_t all = g.k / 2;
  for (std::size_t pair = 0; pair < all; pair += kBlockPairs) {
    const std::size_t pairs = std::min(kBlockPairs, all - pair);
    for (std::size_t row = row_begin; row < row_end; row += kGroupRows) {
      kFunctions[std::min(kGroupRows, row_end - row) - 1](g.x + row * g.x_stride + 2 * pair, g.x_stride,
                                                          weight + 2 * pair * kPanelOutputs, pairs, pair == 0,
                                                          scratch + (row - row_begin) * kPanelOutputs);
    }
  }
  const PanelPart part = panel_part(panel, g.first, g.columns);
  const BFloat16* bias = g.bias != nullptr ? static_cast<const BFloat16*>(g.bias) + part.column : nullptr;
  for (std::size_t row = row_begin; row < row_end; ++row) {
    const float* sums = scratch + (row - row_begin) * kPanelOutputs + part.begin;
    const std::size_t at = row * g.columns + part.column;
    finish_row(sums, bias, part.end - part.begin, g.out_type, g.out, at);
  }
}

void Compute(const PanelGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel,
             float* scratch) {
#if TTE_KERNELS_PAIRS
  if (has_bfloat16_instructions()) return gemm<true>(g, row_begin, row_end, panel, scratch);
#endif
  gemm<false>(g, row_begin, row_end, panel, scratch);
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(Compute);

void pack_pair_panel(const std::uint16_t* weight, std::size_t stride, std::size_t outputs, std::size_t k,
                     std::uint16_t* panel) {
  constexpr std::size_t kPair = sizeof(std::uint32_t);
  constexpr std::size_t kPairs = 64;  // Their part of the panel stays in the first-level cache.
  auto* to = reinterpret_cast<char*>(panel);
  for (std::size_t block = 0; block < k / 2; block += kPairs) {
    const std::size_t end = std::min(k / 2, block + kPairs);
    for (std::size_t output = 0; output < outputs; ++output) {
      const auto* from = reinterpret_cast<const char*>(weight + output * stride);
      for (std::size_t pair = block; pair < end; ++pair)
        std::memcpy(to + (pair * kPanelOutputs + output) * kPair, from + pair * kPair, kPair);
    }
  }
}

void panel_gemm(const PanelGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel,
                float* scratch) {
  HWY_DYNAMIC_DISPATCH(Compute)(gemm, row_begin, row_end, panel, scratch);
}

}  // namespace tte::kernels::simd
#endif
