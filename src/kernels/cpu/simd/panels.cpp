#include "kernels/cpu/simd/panels.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/panels.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // IWYU pragma: keep

#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/host.h"
#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

// Up to so many rows of x pass by a part of a panel that stays in the first-level cache, as it is; widening it takes as
// long as what it saves them.
constexpr std::size_t kFewRows = 96, kShortBlockPairs = 64;
// A tile of rows of x by vectors of outputs: its sums, the outputs' vectors and one of x fill the registers.
constexpr std::size_t kGroupRows = HWY_MAX_BYTES == 64 ? 6 : 3;
constexpr std::size_t kVectors = std::min<std::size_t>(HWY_MAX_BYTES == 64 ? 4 : 2, kPanelOutputs / kLanes);
// A pair of inputs of a panel.
constexpr std::size_t kPairValues = 2 * kPanelOutputs, kLineValues = 32;

// acc[m * kVectors + n] += x[m] * w[n] for one input.
template <std::size_t M>
HWY_INLINE void add_input(const float* x, std::size_t x_stride, const VF* ws, VF* HWY_RESTRICT acc) {
  for (std::size_t m = 0; m < M; ++m) {
    const VF v = keep(hn::Set(F(), x[m * x_stride]));
    for (std::size_t n = 0; n < kVectors; ++n)
      acc[m * kVectors + n] = hn::MulAdd(v, ws[n], acc[m * kVectors + n]);
  }
}

// The same for one pair of inputs, of which w has kVectors vectors.
template <std::size_t M>
HWY_INLINE void add_pair(const float* x, std::size_t x_stride, const std::uint16_t* w, VF* HWY_RESTRICT acc) {
  VU both[kVectors];
  VF ws[kVectors];
  for (std::size_t n = 0; n < kVectors; ++n) {
    both[n] = hn::LoadU(U(), reinterpret_cast<const std::uint32_t*>(w) + n * kLanes);
    ws[n] = widen_even(both[n]);
  }
  add_input<M>(x, x_stride, ws, acc);
  for (std::size_t n = 0; n < kVectors; ++n) ws[n] = widen_odd(both[n]);
  add_input<M>(x + 1, x_stride, ws, acc);
}
#if TTE_KERNELS_PAIRS
HWY_INLINE VF pair_of(const std::uint16_t* p) {
  std::uint32_t value = 0;
  std::memcpy(&value, p, sizeof value);
  return hn::BitCast(F(), hn::Set(U(), value));
}

template <std::size_t M>
HWY_INLINE void add_pair(const std::uint16_t* x, std::size_t x_stride, const std::uint16_t* w,
                         VF* HWY_RESTRICT acc) {
  VF ws[kVectors];
  for (std::size_t n = 0; n < kVectors; ++n)
    ws[n] = load_bits(reinterpret_cast<const BFloat16*>(w) + 2 * n * kLanes);
  for (std::size_t m = 0; m < M; ++m) {
    const VF v = pair_of(x + m * x_stride);
    for (std::size_t n = 0; n < kVectors; ++n)
      acc[m * kVectors + n] = add_products_of_pairs(acc[m * kVectors + n], v, ws[n]);
  }
}
#endif

// A block of inputs for a group of rows.
template <class X, class W>
struct Block {
  const X* x;
  std::size_t x_stride;
  const W* w;
  std::size_t steps;           // Inputs of a w that is widened, else pairs of them.
  bool is_first;               // Sums begin with it.
  const std::uint16_t* ahead;  // What is asked for from memory on the way: the next block, or a part of it.
};

// c[m * kPanelOutputs + n] (+)= x[m] . w[n], for M rows of x; asks for kLines cache lines a step.
template <std::size_t M, std::size_t kLines, class X, class W>
HWY_NOINLINE void group(const Block<X, W>& block, float* HWY_RESTRICT c) {
  constexpr bool kIsWidened = std::is_same_v<W, float>;
  for (std::size_t part = 0; part < kPanelOutputs; part += kVectors * kLanes, c += kVectors * kLanes) {
    const X* x = block.x;
    const W* w = block.w + (kIsWidened ? part : 2 * part);
    const std::uint16_t* ahead = block.ahead;
    VF acc[M * kVectors];
    for (std::size_t m = 0; m < M; ++m) {
      for (std::size_t n = 0; n < kVectors; ++n)
        acc[m * kVectors + n] =
            block.is_first ? hn::Zero(F()) : hn::Load(F(), c + m * kPanelOutputs + n * kLanes);
    }
    for (std::size_t step = 0; step < block.steps; ++step) {
      for (std::size_t line = 0; line < kLines; ++line, ahead += kLineValues) hwy::Prefetch(ahead);
      if constexpr (kIsWidened) {
        VF ws[kVectors];
        for (std::size_t n = 0; n < kVectors; ++n) ws[n] = hn::Load(F(), w + n * kLanes);
        add_input<M>(x, block.x_stride, ws, acc);
        ++x;
        w += kPanelOutputs;
      } else {
        add_pair<M>(x, block.x_stride, w, acc);
        x += 2;
        w += kPairValues;
      }
    }
    for (std::size_t m = 0; m < M; ++m) {
      for (std::size_t n = 0; n < kVectors; ++n)
        hn::Store(acc[m * kVectors + n], F(), c + m * kPanelOutputs + n * kLanes);
    }
  }
}

template <class X, class W>
using Group = void (*)(const Block<X, W>&, float*);
template <std::size_t kLines, class X, class W>
Group<X, W> group_function(std::size_t rows) {
  static constexpr Group<X, W> kFunctions[] = {group<1, kLines, X, W>, group<2, kLines, X, W>,
                                               group<3, kLines, X, W>, group<4, kLines, X, W>,
                                               group<5, kLines, X, W>, group<6, kLines, X, W>};
  return kFunctions[rows - 1];
}
// Where vectors are short, a group goes through the block more than once.
template <class X, class W>
Group<X, W> group_function(std::size_t rows, std::size_t lines) {
  if constexpr (kVectors * kLanes == kPanelOutputs) {
    if (lines == 4) return group_function<4, X, W>(rows);
    if (lines == 2) return group_function<2, X, W>(rows);
    if (lines == 1) return group_function<1, X, W>(rows);
  }
  return group_function<0, X, W>(rows);
}

// All rows, in groups of nearly one size. They share in asking for the next block, if there is one: memory is never
// idle then.
template <class X, class W>
void rows_of_block(Block<X, W> block, std::size_t rows, float* c) {
  const std::size_t groups = (rows + kGroupRows - 1) / kGroupRows, together = (rows + groups - 1) / groups;
  constexpr std::size_t kStepLines = kPairValues / kLineValues / (std::is_same_v<W, float> ? 2 : 1);
  const std::size_t askers = std::min<std::size_t>(kStepLines, groups >= 4 ? 4 : groups >= 2 ? 2 : 1);
  const std::size_t lines = block.ahead == nullptr ? 0 : kStepLines / askers;
  for (std::size_t row = 0, i = 0; row < rows; row += together, ++i) {
    const std::size_t count = std::min(together, rows - row);
    group_function<X, W>(count, i < askers ? lines : 0)(block, c + row * kPanelOutputs);
    block.x += count * block.x_stride;
    if (block.ahead != nullptr) block.ahead += block.steps * lines * kLineValues;
  }
}

HWY_NOINLINE void widen(const std::uint16_t* w, std::size_t pairs, float* HWY_RESTRICT widened) {
  for (std::size_t pair = 0; pair < pairs; ++pair, w += kPairValues, widened += kPairValues) {
    for (std::size_t n = 0; n < kPanelOutputs; n += kLanes) {
      const VU both = hn::LoadU(U(), reinterpret_cast<const std::uint32_t*>(w) + n);
      hn::Store(widen_even(both), F(), widened + n);
      hn::Store(widen_odd(both), F(), widened + kPanelOutputs + n);
    }
  }
}

template <class X>
void multiply(const PanelGemm& g, const X* x, std::size_t rows, const std::uint16_t* weight, float* sums) {
  const std::size_t all = g.k / 2, together = rows > kFewRows ? kBlockPairs : kShortBlockPairs;
  for (std::size_t pair = 0; pair < all; pair += together) {
    const std::size_t pairs = std::min(together, all - pair);
    const bool is_first = pair == 0;
    const std::uint16_t* w = weight + pair * kPairValues;
    const std::uint16_t* ahead = pair + pairs == all ? nullptr : w + pairs * kPairValues;
    if constexpr (std::is_same_v<X, float>) {
      if (rows > kFewRows) {
        float* widened = sums + rows * kPanelOutputs;
        widen(w, pairs, widened);
        rows_of_block<float, float>({x + 2 * pair, g.x_stride, widened, 2 * pairs, is_first, ahead}, rows,
                                    sums);
        continue;
      }
    }
    rows_of_block<X, std::uint16_t>({x + 2 * pair, g.x_stride, w, pairs, is_first, ahead}, rows, sums);
  }
}

void Compute(const PanelGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel,
             float* scratch) {
  const std::uint16_t* weight = g.panels + panel * g.k * kPanelOutputs;
  const std::size_t rows = row_end - row_begin, from = row_begin * g.x_stride;
#if TTE_KERNELS_PAIRS
  if (!g.is_widened) {
    multiply(g, static_cast<const std::uint16_t*>(g.x) + from, rows, weight, scratch);
  } else
#endif
    multiply(g, static_cast<const float*>(g.x) + from, rows, weight, scratch);
  const PanelPart part = panel_part(panel, g.first, g.columns);
  const BFloat16* bias = g.bias != nullptr ? static_cast<const BFloat16*>(g.bias) + part.column : nullptr;
  for (std::size_t row = row_begin; row < row_end; ++row, scratch += kPanelOutputs) {
    const std::size_t at = (row - g.out_row) * g.columns + part.column;
    finish_row(scratch + part.begin, bias, part.end - part.begin, g.out_type, g.out, at);
  }
}

// Pairs [begin, end) of some outputs.
void pack_pairs(const std::uint16_t* weight, std::size_t stride, std::size_t outputs, std::size_t begin,
                std::size_t end, std::uint16_t* panel) {
  for (std::size_t output = 0; output < outputs; ++output) {
    for (std::size_t pair = begin; pair < end; ++pair)
      std::memcpy(panel + pair * kPairValues + 2 * output, weight + output * stride + 2 * pair, 4);
  }
}

#if HWY_TARGET != HWY_SCALAR
// Four pairs each of an output and of those 4, 8 and 12 behind it, as far as a vector has room.
HWY_INLINE VU load_pairs(const std::uint16_t* weight, std::size_t stride) {
  const hn::FixedTag<std::uint32_t, 4> four;
  const auto load = [&](std::size_t i) {
    return hn::LoadU(four, reinterpret_cast<const std::uint32_t*>(weight + 4 * i * stride));
  };
#if HWY_MAX_BYTES == 64
  const hn::FixedTag<std::uint32_t, 8> eight;
  return hn::Combine(U(), hn::Combine(eight, load(3), load(2)), hn::Combine(eight, load(1), load(0)));
#elif HWY_MAX_BYTES == 32
  return hn::Combine(U(), load(1), load(0));
#else
  return load(0);
#endif
}

// Four pairs of kLanes outputs.
HWY_INLINE void pack_tile(const std::uint16_t* weight, std::size_t stride, std::uint16_t* panel) {
  const hn::RepartitionToWide<U> wide;
  const VU a = load_pairs(weight, stride), b = load_pairs(weight + stride, stride);
  const VU c = load_pairs(weight + 2 * stride, stride), d = load_pairs(weight + 3 * stride, stride);
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(U(), a, b));
  const auto ab_high = hn::BitCast(wide, hn::InterleaveUpper(U(), a, b));
  const auto cd_low = hn::BitCast(wide, hn::InterleaveLower(U(), c, d));
  const auto cd_high = hn::BitCast(wide, hn::InterleaveUpper(U(), c, d));
  const auto store = [&](auto v, std::size_t pair) {
    hn::StoreU(hn::BitCast(U(), v), U(), reinterpret_cast<std::uint32_t*>(panel + pair * kPairValues));
  };
  store(hn::InterleaveLower(wide, ab_low, cd_low), 0);
  store(hn::InterleaveUpper(wide, ab_low, cd_low), 1);
  store(hn::InterleaveLower(wide, ab_high, cd_high), 2);
  store(hn::InterleaveUpper(wide, ab_high, cd_high), 3);
}
#endif

void Pack(const std::uint16_t* weight, std::size_t stride, std::size_t outputs, std::size_t k,
          std::uint16_t* panel) {
  std::size_t output = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; output + kLanes <= outputs; output += kLanes) {
    const std::uint16_t* from = weight + output * stride;
    std::size_t pair = 0;
    for (; pair + 4 <= k / 2; pair += 4)
      pack_tile(from + 2 * pair, stride, panel + pair * kPairValues + 2 * output);
    pack_pairs(from, stride, kLanes, pair, k / 2, panel + 2 * output);
  }
#endif
  pack_pairs(weight + output * stride, stride, outputs - output, 0, k / 2, panel + 2 * output);
}

bool Widens() {
  return !TTE_KERNELS_PAIRS || !multiplies_pairs();
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(Compute);
HWY_EXPORT(Widens);
HWY_EXPORT(Pack);

bool panels_widen() {
  return HWY_DYNAMIC_DISPATCH(Widens)();
}

void pack_pair_panel(const std::uint16_t* weight, std::size_t stride, std::size_t outputs, std::size_t k,
                     std::uint16_t* panel) {
  HWY_DYNAMIC_DISPATCH(Pack)(weight, stride, outputs, k, panel);
}

void panel_gemm(const PanelGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel,
                float* scratch) {
  HWY_DYNAMIC_DISPATCH(Compute)(gemm, row_begin, row_end, panel, scratch);
}

}  // namespace tte::kernels::simd
#endif
