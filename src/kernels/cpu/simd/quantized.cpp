#include "kernels/cpu/simd/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/quantized.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/host.h"
#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

using I = hn::RebindToSigned<F>;
using VI = hn::Vec<I>;

constexpr std::size_t kQuadBytes = kQuad * kPanelOutputs;

// Codes of weights are stored as unsigned numbers, with this added.
constexpr int code_offset(Bits bits) {
  return bits == Bits::kEight ? 128 : 8;
}

// Where round_rows() puts the parts of its result.
template <Bits kBits>
struct Rounded {
  std::size_t inputs, groups;
  std::int8_t* codes;     // [rows, inputs]
  float* scales;          // [rows, groups]
  std::int32_t* offsets;  // [rows, groups]: what the weight's code_offset adds to a sum of products, negated.

  Rounded(std::size_t rows, std::size_t k, void* memory)
      : inputs(filled_inputs(kBits, k)),
        groups(groups_of(kBits, k)),
        codes(static_cast<std::int8_t*>(memory)) {
    auto* after = static_cast<char*>(memory) + rows * inputs;
    scales = reinterpret_cast<float*>(after);
    offsets = reinterpret_cast<std::int32_t*>(after + rows * groups * sizeof(float));
  }
};

// acc + the products of the four unsigned bytes of w and the four signed ones of x, lane by lane.
template <bool kVnni>
HWY_INLINE VI add_products_of_quads(VI acc, VI w, VI x) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (kVnni) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(w.raw), "v"(x.raw));
    return acc;
  }
#endif
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  const hn::Repartition<std::int16_t, I> half;
  const hn::RebindToUnsigned<decltype(half)> unsigned_half;
  const auto w_even = hn::BitCast(half, hn::And(hn::BitCast(unsigned_half, w), hn::Set(unsigned_half, 0xFF)));
  const auto w_odd = hn::BitCast(half, hn::ShiftRight<8>(hn::BitCast(unsigned_half, w)));
  const auto x_even = hn::ShiftRight<8>(hn::ShiftLeft<8>(hn::BitCast(half, x)));
  const auto x_odd = hn::ShiftRight<8>(hn::BitCast(half, x));
  // On x86 the products of neighbours are added in their lane, and `unused` stays as it is.
  VI unused = hn::Zero(I());
  acc = hn::ReorderWidenMulAccumulate(I(), w_even, x_even, acc, unused);
  return hn::ReorderWidenMulAccumulate(I(), w_odd, x_odd, acc, unused);
#else
  const U u;
  const auto product = [&](auto w_byte, auto x_byte) {
    return hn::Mul(hn::BitCast(I(), hn::And(w_byte, hn::Set(u, 0xFF))), hn::ShiftRight<24>(x_byte));
  };
  const VU codes = hn::BitCast(u, w);
  acc = hn::Add(acc, product(codes, hn::ShiftLeft<24>(x)));
  acc = hn::Add(acc, product(hn::ShiftRight<8>(codes), hn::ShiftLeft<16>(x)));
  acc = hn::Add(acc, product(hn::ShiftRight<16>(codes), hn::ShiftLeft<8>(x)));
  return hn::Add(acc, product(hn::ShiftRight<24>(codes), x));
#endif
}

HWY_INLINE VI quad_of(const std::int8_t* p) {
  std::int32_t value = 0;
  std::memcpy(&value, p, sizeof value);
  return hn::Set(I(), value);
}

HWY_INLINE VI load_codes(const std::uint8_t* p) {
  return hn::LoadU(I(), reinterpret_cast<const std::int32_t*>(p));
}

// acc[m * N + n] += x[m] . w[n] over a group of `inputs`; the rows of x are x_stride values apart.
template <Bits kBits, bool kVnni, std::size_t M, std::size_t N>
HWY_INLINE void multiply_group(const std::int8_t* x, std::size_t x_stride, const std::uint8_t* w,
                               std::size_t inputs, VI* HWY_RESTRICT acc) {
  constexpr std::size_t kVectorBytes = kLanes * kQuad;
  if constexpr (kBits == Bits::kEight) {
    for (std::size_t i = 0; i < inputs; i += kQuad, w += kQuadBytes) {
      VI ws[N];
      for (std::size_t n = 0; n < N; ++n) ws[n] = load_codes(w + n * kVectorBytes);
      for (std::size_t m = 0; m < M; ++m) {
        const VI v = quad_of(x + m * x_stride + i);
        for (std::size_t n = 0; n < N; ++n)
          acc[m * N + n] = add_products_of_quads<kVnni>(acc[m * N + n], ws[n], v);
      }
    }
  } else {
    const VI low = hn::Set(I(), 0x0F0F0F0F);
    for (std::size_t i = 0; i < inputs; i += 2 * kQuad, w += kQuadBytes) {
      VI ws[N];
      for (std::size_t n = 0; n < N; ++n) ws[n] = hn::And(load_codes(w + n * kVectorBytes), low);
      for (std::size_t m = 0; m < M; ++m) {
        const VI v = quad_of(x + m * x_stride + i);
        for (std::size_t n = 0; n < N; ++n)
          acc[m * N + n] = add_products_of_quads<kVnni>(acc[m * N + n], ws[n], v);
      }
      for (std::size_t n = 0; n < N; ++n)
        ws[n] = hn::And(hn::ShiftRight<4>(load_codes(w + n * kVectorBytes)), low);
      for (std::size_t m = 0; m < M; ++m) {
        const VI v = quad_of(x + m * x_stride + i + kQuad);
        for (std::size_t n = 0; n < N; ++n)
          acc[m * N + n] = add_products_of_quads<kVnni>(acc[m * N + n], ws[n], v);
      }
    }
  }
}

// c[m * kPanelOutputs + n] = x[m] . w[n] for M rows of x and N vectors of a panel's outputs, from `first_output` on;
// without the scales of an 8-bit panel.
template <Bits kBits, bool kVnni, std::size_t M, std::size_t N>
HWY_INLINE void tile(const Rounded<kBits>& x, std::size_t row, const std::uint8_t* panel,
                     std::size_t first_output, float* c) {
  const std::int8_t* codes = x.codes + row * x.inputs;
  const float* scales = x.scales + row * x.groups;
  const std::int32_t* offsets = x.offsets + row * x.groups;
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t n = 0; n < N; ++n) hn::Store(hn::Zero(F()), F(), c + m * kPanelOutputs + n * kLanes);
  }
  const std::uint8_t* w = panel + first_output * kQuad;
  for (std::size_t group = 0; group < x.groups; ++group) {
    const std::size_t from = group * group_inputs(kBits);
    const std::size_t inputs = std::min(group_inputs(kBits), x.inputs - from);
    VI acc[M * N];
    for (std::size_t m = 0; m < M; ++m) {
      const VI offset = hn::Set(I(), offsets[m * x.groups + group]);
      for (std::size_t n = 0; n < N; ++n) acc[m * N + n] = offset;
    }
    multiply_group<kBits, kVnni, M, N>(codes + from, x.inputs, w, inputs, acc);
    w += code_bytes(kBits, inputs);
    for (std::size_t n = 0; n < N; ++n) {
      VF w_scale = hn::Zero(F());
      if constexpr (kBits == Bits::kFour) {
        // The codes' pointer stands first_output quads into the group.
        w_scale = load_natural(
            F(), reinterpret_cast<const BFloat16*>(w - first_output * kQuad) + first_output + n * kLanes);
      }
      for (std::size_t m = 0; m < M; ++m) {
        VF sum = hn::ConvertTo(F(), acc[m * N + n]);
        if constexpr (kBits == Bits::kFour) sum = hn::Mul(sum, w_scale);
        // Sums stay in memory between groups, which leaves the registers to the products.
        float* place = c + m * kPanelOutputs + n * kLanes;
        hn::Store(hn::MulAdd(sum, hn::Set(F(), scales[m * x.groups + group]), hn::Load(F(), place)), F(),
                  place);
      }
    }
    if constexpr (kBits == Bits::kFour) w += kGroupScaleBytes;
  }
}

template <Bits kBits, bool kVnni, std::size_t M>
HWY_NOINLINE void panel_rows(const Rounded<kBits>& x, std::size_t row, const std::uint8_t* panel, float* c) {
  // As many vectors of outputs as leave the registers room.
  constexpr std::size_t kVectors = HWY_MAX_BYTES == 64 ? 4 : 2;
  constexpr std::size_t kWide = std::min(kVectors, kPanelOutputs / kLanes);
  for (std::size_t output = 0; output < kPanelOutputs; output += kWide * kLanes)
    tile<kBits, kVnni, M, kWide>(x, row, panel, output, c + output);
}

constexpr std::size_t kGroupRows = HWY_MAX_BYTES == 64 ? 6 : 3;

template <Bits kBits, bool kVnni>
void panel_of_rows(const Rounded<kBits>& x, std::size_t row, std::size_t rows, const std::uint8_t* panel,
                   float* c) {
  using Function = void (*)(const Rounded<kBits>&, std::size_t, const std::uint8_t*, float*);
  static constexpr Function kFunctions[] = {panel_rows<kBits, kVnni, 1>, panel_rows<kBits, kVnni, 2>,
                                            panel_rows<kBits, kVnni, 3>, panel_rows<kBits, kVnni, 4>,
                                            panel_rows<kBits, kVnni, 5>, panel_rows<kBits, kVnni, 6>};
  kFunctions[rows - 1](x, row, panel, c);
}

template <Bits kBits, bool kVnni, class T>
void gemm_typed(const QuantizedGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel) {
  const Rounded<kBits> x(g.rows, g.k, const_cast<void*>(g.x));
  const std::uint8_t* weight = g.panels + panel * panel_bytes(kBits, g.k);
  const PanelPart part = panel_part(panel, g.first, g.columns);
  const T* bias = g.bias != nullptr ? static_cast<const T*>(g.bias) + part.column : nullptr;
  HWY_ALIGN float c[kGroupRows * kPanelOutputs];
  for (std::size_t row = row_begin; row < row_end; row += kGroupRows) {
    const std::size_t rows = std::min(kGroupRows, row_end - row);
    panel_of_rows<kBits, kVnni>(x, row, rows, weight, c);
    for (std::size_t m = 0; m < rows; ++m) {
      float* sums = c + m * kPanelOutputs;
      if constexpr (kBits == Bits::kEight) {
        const auto* scales = reinterpret_cast<const float*>(weight + code_bytes(kBits, x.inputs));
        for (std::size_t n = 0; n < kPanelOutputs; n += kLanes)
          hn::Store(hn::Mul(hn::Load(F(), sums + n), hn::LoadU(F(), scales + n)), F(), sums + n);
      }
      const std::size_t at = (row + m) * g.columns + part.column;
      finish_row(sums + part.begin, bias, part.end - part.begin, g.out_type, g.out, at);
    }
  }
}

// `count` values of x as float32, and zeros after them up to `filled`.
template <class T>
HWY_INLINE void load_values(const T* x, std::size_t count, std::size_t filled, float* HWY_RESTRICT values) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(load_natural(F(), x + i), F(), values + i);
  T rest[kLanes];
  std::memset(rest, 0, sizeof(rest));
  std::memcpy(rest, x + i, (count - i) * sizeof(T));
  for (; i < filled; i += kLanes) {
    hn::StoreU(load_natural(F(), rest), F(), values + i);
    std::memset(rest, 0, sizeof(rest));
  }
}

// The greatest magnitude of `count` values, a multiple of kLanes; NaN if one is not finite.
HWY_INLINE float greatest(const float* values, std::size_t count) {
  VF most = hn::Zero(F()), nothing = hn::Zero(F());
  for (std::size_t i = 0; i < count; i += kLanes) {
    const VF v = hn::LoadU(F(), values + i);
    most = hn::Max(most, hn::Abs(v));
    nothing = hn::MulAdd(v, hn::Zero(F()), nothing);
  }
  return hn::GetLane(hn::MaxOfLanes(F(), most)) + hn::GetLane(hn::SumOfLanes(F(), nothing));
}

// Scale and its inverse for values up to `most`; those too small to have an inverse are zeros.
struct Scale {
  float scale = 0, inverse = 0;
  explicit Scale(float most) {
    constexpr float kGreatestCode = 127;
    if (most < kGreatestCode * std::numeric_limits<float>::min()) return;
    scale = most / kGreatestCode;
    inverse = kGreatestCode / most;
  }
};

// The codes of `count` values, a multiple of kLanes; returns their sum.
template <class Code>
HWY_INLINE std::int32_t round_values(const float* HWY_RESTRICT values, std::size_t count, float inverse,
                                     int least, int most, int offset, Code* HWY_RESTRICT codes) {
  const hn::Rebind<Code, I> narrow;
  VI sum = hn::Zero(I());
  for (std::size_t i = 0; i < count; i += kLanes) {
    const VI nearest = hn::NearestInt(hn::Mul(hn::LoadU(F(), values + i), hn::Set(F(), inverse)));
    const VI code = hn::Min(hn::Max(nearest, hn::Set(I(), least)), hn::Set(I(), most));
    sum = hn::Add(sum, code);
    hn::StoreU(hn::DemoteTo(narrow, hn::Add(code, hn::Set(I(), offset))), narrow, codes + i);
  }
  return hn::GetLane(hn::SumOfLanes(I(), sum));
}

// Space for a group, which may be less than a vector longer than its inputs.
constexpr std::size_t kGroupSpace = 128 + kLanes;

template <Bits kBits, class T>
void round_rows_typed(const RowsToRound& in, std::size_t begin, std::size_t end, void* memory) {
  const auto* x = static_cast<const T*>(in.x);
  const std::size_t stride = in.stride, k = in.k;
  const Rounded<kBits> out(in.rows, k, memory);
  HWY_ALIGN float values[kGroupSpace];
  HWY_ALIGN std::int8_t codes[kGroupSpace];
  for (std::size_t row = begin; row < end; ++row) {
    for (std::size_t group = 0; group < out.groups; ++group) {
      const std::size_t from = group * group_inputs(kBits), count = std::min(group_inputs(kBits), k - from);
      const std::size_t inputs = std::min(group_inputs(kBits), out.inputs - from),
                        filled = round_up(inputs, kLanes);
      load_values(x + row * stride + from, count, filled, values);
      const Scale scale(greatest(values, filled));
      const std::int32_t sum = round_values(values, filled, scale.inverse, -127, 127, 0, codes);
      std::memcpy(out.codes + row * out.inputs + from, codes, inputs);
      out.scales[row * out.groups + group] = scale.scale;
      out.offsets[row * out.groups + group] = -code_offset(kBits) * sum;
    }
  }
}

// Puts the codes of `inputs` inputs of output `output` in their places within a group.
template <Bits kBits>
void place_codes(const std::uint8_t* codes, std::size_t inputs, std::size_t output, std::uint8_t* group) {
  group += output * kQuad;
  if constexpr (kBits == Bits::kEight) {
    for (std::size_t i = 0; i < inputs; i += kQuad, group += kQuadBytes) std::memcpy(group, codes + i, kQuad);
  } else {
    for (std::size_t i = 0; i < inputs; i += 2 * kQuad, group += kQuadBytes) {
      for (std::size_t j = 0; j < kQuad; ++j)
        group[j] = static_cast<std::uint8_t>(codes[i + j] | codes[i + kQuad + j] << 4);
    }
  }
}

template <class T>
void pack_output_of_8_bits(const T* weight, std::size_t k, std::size_t output, std::uint8_t* panel) {
  HWY_ALIGN float values[kGroupSpace];
  HWY_ALIGN std::uint8_t codes[kGroupSpace];
  constexpr std::size_t kGroup = group_inputs(Bits::kEight);
  const std::size_t inputs = filled_inputs(Bits::kEight, k);
  float most = 0;
  for (std::size_t from = 0; from < k; from += kGroup) {
    const std::size_t count = std::min(kGroup, k - from);
    load_values(weight + from, count, round_up(count, kLanes), values);
    const float here = greatest(values, round_up(count, kLanes));
    if (!(here <= most)) most = here;  // Also a NaN, which stays.
    if (std::isnan(most)) break;
  }
  const Scale scale(most);
  for (std::size_t from = 0; from < k; from += kGroup) {
    const std::size_t count = std::min(kGroup, k - from), filled = std::min(kGroup, inputs - from);
    load_values(weight + from, count, round_up(filled, kLanes), values);
    round_values(values, round_up(filled, kLanes), scale.inverse, -127, 127, code_offset(Bits::kEight),
                 codes);
    place_codes<Bits::kEight>(codes, filled, output, panel + code_bytes(Bits::kEight, from));
  }
  std::memcpy(panel + code_bytes(Bits::kEight, inputs) + output * sizeof(float), &scale.scale, sizeof(float));
}

// The scale with which codes of 4 bits come closest to a group's values, as the bits of a bfloat16. For each of some
// steps the codes are rounded, and the best scale of these codes is (x . q) / (q . q), which leaves the squared error
// (x . x) - (x . q)^2 / (q . q).
float best_scale(const float* values, float most) {
  if (std::isnan(most)) return most;
  if (most < 16 * std::numeric_limits<float>::min()) return 0;
  constexpr std::size_t kGroup = group_inputs(Bits::kFour);
  // The code -8 is for the value of greatest magnitude, whatever its sign.
  float sign = -1;
  for (std::size_t i = 0; i < kGroup; ++i) {
    if (values[i] == -most) sign = 1;
  }
  float best = 0, least = -1;
  for (int step = 0; step < 5; ++step) {
    const float inverse = sign * (6.8F + 0.4F * static_cast<float>(step)) / most;
    VF xq = hn::Zero(F()), qq = hn::Zero(F());
    for (std::size_t i = 0; i < kGroup; i += kLanes) {
      const VF x = hn::LoadU(F(), values + i);
      const VF q = hn::ConvertTo(F(), hn::NearestInt(hn::Mul(x, hn::Set(F(), inverse))));
      const VF code = hn::Min(hn::Max(q, hn::Set(F(), -8)), hn::Set(F(), 7));
      xq = hn::MulAdd(x, code, xq);
      qq = hn::MulAdd(code, code, qq);
    }
    const float product = hn::GetLane(hn::SumOfLanes(F(), xq)), square = hn::GetLane(hn::SumOfLanes(F(), qq));
    if (square > 0 && product * product / square > least) {
      least = product * product / square;
      best = product / square;
    }
  }
  return best;
}

template <class T>
void pack_output_of_4_bits(const T* weight, std::size_t k, std::size_t output, std::uint8_t* panel) {
  constexpr std::size_t kGroup = group_inputs(Bits::kFour);
  HWY_ALIGN float values[kGroup];
  HWY_ALIGN std::uint8_t codes[kGroup];
  for (std::size_t from = 0; from < k; from += kGroup) {
    load_values(weight + from, std::min(kGroup, k - from), kGroup, values);
    // Codes are those of the scale as it is kept.
    HWY_ALIGN BFloat16 kept[kLanes];
    HWY_ALIGN float scales[kLanes];
    store_natural(hn::Set(F(), best_scale(values, greatest(values, kGroup))), kept);
    hn::Store(load_natural(F(), kept), F(), scales);
    const float inverse = std::abs(scales[0]) >= std::numeric_limits<float>::min() ? 1 / scales[0] : 0;
    round_values(values, kGroup, inverse, -8, 7, code_offset(Bits::kFour), codes);
    place_codes<Bits::kFour>(codes, kGroup, output, panel);
    panel += code_bytes(Bits::kFour, kGroup);
    std::memcpy(panel + output * sizeof(BFloat16), kept, sizeof(BFloat16));
    panel += kGroupScaleBytes;
  }
}

template <class Body>
void with_type(Type type, const Body& body) {
  switch (type) {
    case Type::kFloat:
      return body(float{});
    case Type::kBFloat16:
      return body(BFloat16{});
    case Type::kHalf:
      return body(Half{});
  }
}

void Pack(Bits bits, Type type, const void* weight, std::size_t stride, std::size_t outputs, std::size_t k,
          std::uint8_t* panel) {
  with_type(type, [&](auto t) {
    const auto* rows = static_cast<const decltype(t)*>(weight);
    for (std::size_t output = 0; output < outputs; ++output) {
      if (bits == Bits::kEight) pack_output_of_8_bits(rows + output * stride, k, output, panel);
      if (bits == Bits::kFour) pack_output_of_4_bits(rows + output * stride, k, output, panel);
    }
  });
}

void Round(Bits bits, const RowsToRound& rows, std::size_t begin, std::size_t end, void* rounded) {
  with_type(rows.type, [&](auto t) {
    using T = decltype(t);
    if (bits == Bits::kEight) round_rows_typed<Bits::kEight, T>(rows, begin, end, rounded);
    if (bits == Bits::kFour) round_rows_typed<Bits::kFour, T>(rows, begin, end, rounded);
  });
}

template <bool kVnni>
void multiply(const QuantizedGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel) {
  with_type(g.type, [&](auto t) {
    using T = decltype(t);
    if (g.bits == Bits::kEight) gemm_typed<Bits::kEight, kVnni, T>(g, row_begin, row_end, panel);
    if (g.bits == Bits::kFour) gemm_typed<Bits::kFour, kVnni, T>(g, row_begin, row_end, panel);
  });
}

void Compute(const QuantizedGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel) {
#if HWY_TARGET == HWY_AVX3
  if (has_byte_products()) return multiply<true>(g, row_begin, row_end, panel);
#endif
  multiply<false>(g, row_begin, row_end, panel);
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(Pack);
HWY_EXPORT(Round);
HWY_EXPORT(Compute);

void pack_panel(Bits bits, Type type, const void* weight, std::size_t stride, std::size_t outputs,
                std::size_t k, std::uint8_t* panel) {
  HWY_DYNAMIC_DISPATCH(Pack)(bits, type, weight, stride, outputs, k, panel);
}

void round_rows(Bits bits, const RowsToRound& rows, std::size_t begin, std::size_t end, void* rounded) {
  HWY_DYNAMIC_DISPATCH(Round)(bits, rows, begin, end, rounded);
}

void quantized_gemm(const QuantizedGemm& gemm, std::size_t row_begin, std::size_t row_end,
                    std::size_t panel) {
  HWY_DYNAMIC_DISPATCH(Compute)(gemm, row_begin, row_end, panel);
}

}  // namespace tte::kernels::simd
#endif
