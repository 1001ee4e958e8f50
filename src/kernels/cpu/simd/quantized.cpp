#include "kernels/cpu/simd/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/quantized.cpp"
#include <hwy/cache_control.h>
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

// Where round_rows() puts the parts of its result.
struct Rounded {
  std::size_t inputs, groups, blocks;
  std::int8_t* codes;  // [rows, inputs]
  float* scales;       // [rows, groups]
  std::int32_t* sums;  // [rows, blocks]: of the block's codes.

  Rounded(Bits bits, std::size_t rows, std::size_t k, void* memory)
      : inputs(filled_inputs(bits, k)),
        groups(groups_of(k)),
        blocks(blocks_of(bits, k)),
        codes(static_cast<std::int8_t*>(memory)) {
    auto* after = static_cast<char*>(memory) + rows * inputs;
    scales = reinterpret_cast<float*>(after);
    sums = reinterpret_cast<std::int32_t*>(after + rows * groups * sizeof(float));
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

// How the codes of a weight lie where they are read.
enum class Codes : std::uint8_t {
  kEight,    // Of 8 bits, one scale a panel.
  kFour,     // Of 4 bits.
  kWidened,  // Of 4 bits, times their factors: bytes that widen() made.
};
constexpr Bits bits_of(Codes codes) {
  return codes == Codes::kEight ? Bits::kEight : Bits::kFour;
}

// What reading takes from memory is asked for this many bytes before: one row's products take less time than it.
constexpr std::size_t kAhead = 4096;

// acc[m * N + n] += x[m] . w[n] over `inputs` bytes, or with `kFour` codes of 4 bits; the rows of x are x_stride values
// apart.
template <bool kFour, bool kVnni, std::size_t M, std::size_t N>
HWY_INLINE void multiply_codes(const std::int8_t* x, std::size_t x_stride, const std::uint8_t* w,
                               std::size_t inputs, VI* HWY_RESTRICT acc) {
  constexpr std::size_t kVectorBytes = kLanes * kQuad;
  const VI low = hn::Set(I(), 0x0F0F0F0F);
  for (std::size_t i = 0; i < inputs; i += kFour ? 2 * kQuad : kQuad, w += kQuadBytes) {
    VI ws[N];
    for (std::size_t n = 0; n < N; ++n) {
      if constexpr (M == 1) hwy::Prefetch(w + kAhead + n * kVectorBytes);
      ws[n] = load_codes(w + n * kVectorBytes);
      if constexpr (kFour) ws[n] = hn::And(ws[n], low);
    }
    for (std::size_t m = 0; m < M; ++m) {
      const VI v = quad_of(x + m * x_stride + i);
      for (std::size_t n = 0; n < N; ++n)
        acc[m * N + n] = add_products_of_quads<kVnni>(acc[m * N + n], ws[n], v);
    }
    if constexpr (kFour) {
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

// The steps and factors of some vectors of outputs of a 4-bit group, whose `scales` stand behind its codes.
HWY_INLINE VF load_steps(const std::uint8_t* scales, std::size_t output) {
  return hn::LoadU(F(), reinterpret_cast<const float*>(scales) + output);
}
HWY_INLINE VI load_factors(const std::uint8_t* scales, std::size_t output, std::size_t block) {
  const VI all = load_codes(scales + kPanelOutputs * sizeof(float) + output * sizeof(std::uint32_t));
  return hn::ShiftRight<24>(hn::ShiftLeftSame(all, static_cast<int>(24 - 8 * block)));
}

// Groups [begin, end) of a panel, and where their codes begin; what scales them stands in the panel.
struct Groups {
  std::size_t begin, end;
  const std::uint8_t* panel;
  const std::uint8_t* codes;
};
// Where a 4-bit panel has a group.
constexpr std::size_t group_offset(std::size_t group) {
  return group * (code_bytes(Bits::kFour, kGroupInputs) + kGroupScaleBytes);
}

// sums[m * N + n] = x[m] . w[n] over a group of `inputs`, in whole numbers. `sums_of_x` are those of its blocks.
template <Codes kCodes, bool kVnni, std::size_t M, std::size_t N>
HWY_INLINE void multiply_group(const Rounded& x, std::size_t row, std::size_t from, std::size_t inputs,
                               const std::uint8_t* w, const std::uint8_t* scales, std::size_t output,
                               VI* HWY_RESTRICT sums) {
  constexpr std::size_t kBlock = block_inputs(bits_of(kCodes));
  const std::int8_t* codes = x.codes + row * x.inputs + from;
  const std::int32_t* of_x = x.sums + row * x.blocks + from / kBlock;
  if constexpr (kCodes != Codes::kFour) {
    for (std::size_t m = 0; m < M; ++m) {
      std::int32_t sum = of_x[m * x.blocks];
      if constexpr (kCodes == Codes::kWidened) {
        for (std::size_t b = 1; b * kBlock < inputs; ++b) sum += of_x[m * x.blocks + b];
      }
      const VI offset = hn::Set(I(), -code_offset(Bits::kEight) * sum);
      for (std::size_t n = 0; n < N; ++n) sums[m * N + n] = offset;
    }
    multiply_codes<false, kVnni, M, N>(codes, x.inputs, w, inputs, sums);
  } else {
    for (std::size_t i = 0; i < M * N; ++i) sums[i] = hn::Zero(I());
    for (std::size_t b = 0; b * kBlock < inputs; ++b) {
      VI acc[M * N];
      for (std::size_t m = 0; m < M; ++m) {
        const VI offset = hn::Set(I(), -code_offset(Bits::kFour) * of_x[m * x.blocks + b]);
        for (std::size_t n = 0; n < N; ++n) acc[m * N + n] = offset;
      }
      multiply_codes<true, kVnni, M, N>(codes + b * kBlock, x.inputs, w + code_bytes(Bits::kFour, b * kBlock),
                                        kBlock, acc);
      for (std::size_t n = 0; n < N; ++n) {
        const VI factors = load_factors(scales, output + n * kLanes, b);
        for (std::size_t m = 0; m < M; ++m)
          sums[m * N + n] = hn::Add(sums[m * N + n], hn::Mul(acc[m * N + n], factors));
      }
    }
  }
}

// c[m * kPanelOutputs + n] (+)= x[m] . w[n] over some groups, for M rows of x and N vectors of a panel's outputs, from
// `output` on; without the scales of an 8-bit panel.
template <Codes kCodes, bool kVnni, std::size_t M, std::size_t N>
HWY_INLINE void tile(const Rounded& x, std::size_t row, const Groups& groups, std::size_t output, float* c) {
  if (groups.begin == 0) {
    for (std::size_t m = 0; m < M; ++m) {
      for (std::size_t n = 0; n < N; ++n) hn::Store(hn::Zero(F()), F(), c + m * kPanelOutputs + n * kLanes);
    }
  }
  const float* scales_of_x = x.scales + row * x.groups;
  const std::uint8_t* w = groups.codes + output * kQuad;
  for (std::size_t group = groups.begin; group < groups.end; ++group) {
    const std::size_t from = group * kGroupInputs, inputs = std::min(kGroupInputs, x.inputs - from);
    const std::uint8_t* scales = groups.panel + group_offset(group) + code_bytes(Bits::kFour, inputs);
    VI sums[M * N];
    multiply_group<kCodes, kVnni, M, N>(x, row, from, inputs, w, scales, output, sums);
    w += code_bytes(kCodes == Codes::kFour ? Bits::kFour : Bits::kEight, inputs);
    if constexpr (kCodes == Codes::kFour) w += kGroupScaleBytes;
    VF steps[N];
    for (std::size_t n = 0; n < N; ++n) {
      steps[n] = hn::Zero(F());
      if constexpr (kCodes != Codes::kEight) steps[n] = load_steps(scales, output + n * kLanes);
    }
    // Sums stay in memory between groups, which leaves the registers to the products.
    for (std::size_t m = 0; m < M; ++m) {
      const VF scale = hn::Set(F(), scales_of_x[m * x.groups + group]);
      float* place = c + m * kPanelOutputs;
      for (std::size_t n = 0; n < N; ++n) {
        VF sum = hn::ConvertTo(F(), sums[m * N + n]);
        if constexpr (kCodes != Codes::kEight) sum = hn::Mul(sum, steps[n]);
        const VF before = hn::Load(F(), place + n * kLanes);
        hn::Store(hn::MulAdd(sum, scale, before), F(), place + n * kLanes);
      }
    }
  }
}

template <Codes kCodes, bool kVnni, std::size_t M>
HWY_NOINLINE void panel_rows(const Rounded& x, std::size_t row, const Groups& groups, float* c) {
  // As many vectors of outputs as leave the registers room.
  constexpr std::size_t kVectors = HWY_MAX_BYTES == 64 ? (kCodes == Codes::kFour && M > 3 ? 2 : 4) : 2;
  constexpr std::size_t kWide = std::min(kVectors, kPanelOutputs / kLanes);
  for (std::size_t output = 0; output < kPanelOutputs; output += kWide * kLanes)
    tile<kCodes, kVnni, M, kWide>(x, row, groups, output, c + output);
}

// The products of up to kGroupRows rows of x with a panel's groups.
struct GroupProducts {
  using Function = void (*)(const Rounded&, std::size_t, const Groups&, float*);
  bool is_widened;
  Function of_rows[6];
};
constexpr std::size_t kGroupRows = HWY_MAX_BYTES == 64 ? 6 : 3;

template <Codes kCodes, bool kVnni>
constexpr GroupProducts kProducts{
    kCodes == Codes::kWidened,
    {panel_rows<kCodes, kVnni, 1>, panel_rows<kCodes, kVnni, 2>, panel_rows<kCodes, kVnni, 3>,
     panel_rows<kCodes, kVnni, 4>, panel_rows<kCodes, kVnni, 5>, panel_rows<kCodes, kVnni, 6>}};

template <bool kVnni>
const GroupProducts& products_of(Bits bits, std::size_t rows) {
  if (bits == Bits::kEight) return kProducts<Codes::kEight, kVnni>;
  constexpr std::size_t kFewRows = 16;  // Making bytes takes as long as what it saves these.
  return rows > kFewRows ? kProducts<Codes::kWidened, kVnni> : kProducts<Codes::kFour, kVnni>;
}

// Writes code * factor of groups [begin, end) of a 4-bit panel with k inputs, as codes of 8 bits.
HWY_NOINLINE void widen(const std::uint8_t* panel, std::size_t k, std::size_t begin, std::size_t end,
                        std::uint8_t* widened) {
  constexpr std::size_t kBlock = block_inputs(Bits::kFour);
  const VI low = hn::Set(I(), 0x0F0F0F0F), ones = hn::Set(I(), 0x01010101);
  const auto store = [](VI v, std::uint8_t* p) { hn::StoreU(v, I(), reinterpret_cast<std::int32_t*>(p)); };
  for (std::size_t group = begin; group < end; ++group) {
    const std::size_t inputs = std::min(kGroupInputs, k - group * kGroupInputs);
    const std::uint8_t* codes = panel + group_offset(group);
    const std::uint8_t* scales = codes + code_bytes(Bits::kFour, inputs);
    for (std::size_t from = 0; from < inputs; from += kBlock) {
      for (std::size_t output = 0; output < kPanelOutputs; output += kLanes) {
        const VI factors = load_factors(scales, output, from / kBlock);
        // Four bytes at once: (code + 8) * factor + 128 - 8 * factor is from 0 to 255 in each.
        const VI offset =
            hn::Mul(ones, hn::Sub(hn::Set(I(), code_offset(Bits::kEight)), hn::ShiftLeft<3>(factors)));
        const std::uint8_t* w = codes + code_bytes(Bits::kFour, from) + output * kQuad;
        std::uint8_t* to = widened + code_bytes(Bits::kEight, from) + output * kQuad;
        for (std::size_t i = 0; i < kBlock; i += 2 * kQuad, w += kQuadBytes, to += 2 * kQuadBytes) {
          const VI both = load_codes(w);
          store(hn::Add(hn::Mul(hn::And(both, low), factors), offset), to);
          store(hn::Add(hn::Mul(hn::And(hn::ShiftRight<4>(both), low), factors), offset), to + kQuadBytes);
        }
      }
    }
    widened += code_bytes(Bits::kEight, inputs);
  }
}

template <class T>
void gemm_typed(const QuantizedGemm& g, const GroupProducts& products, std::size_t row_begin,
                std::size_t row_end, std::size_t panel, float* sums) {
  const Rounded x(g.bits, g.rows, g.k, const_cast<void*>(g.x));
  const std::uint8_t* weight = g.panels + panel * panel_bytes(g.bits, g.k);
  auto* widened = reinterpret_cast<std::uint8_t*>(sums + (row_end - row_begin) * kPanelOutputs);
  const std::size_t together = products.is_widened ? kWidenedInputs / kGroupInputs : x.groups;
  for (std::size_t begin = 0; begin < x.groups; begin += together) {
    const std::size_t end = std::min(x.groups, begin + together);
    if (products.is_widened) widen(weight, x.inputs, begin, end, widened);
    const Groups groups{begin, end, weight, products.is_widened ? widened : weight};
    for (std::size_t row = row_begin; row < row_end; row += kGroupRows) {
      products.of_rows[std::min(kGroupRows, row_end - row) - 1](x, row, groups,
                                                                sums + (row - row_begin) * kPanelOutputs);
    }
  }
  const PanelPart part = panel_part(panel, g.first, g.columns);
  const T* bias = g.bias != nullptr ? static_cast<const T*>(g.bias) + part.column : nullptr;
  for (std::size_t row = row_begin; row < row_end; ++row, sums += kPanelOutputs) {
    if (g.bits == Bits::kEight) {
      const auto* scales = reinterpret_cast<const float*>(weight + code_bytes(g.bits, x.inputs));
      for (std::size_t n = 0; n < kPanelOutputs; n += kLanes)
        hn::Store(hn::Mul(hn::Load(F(), sums + n), hn::LoadU(F(), scales + n)), F(), sums + n);
    }
    finish_row(sums + part.begin, bias, part.end - part.begin, g.out_type, g.out,
               row * g.columns + part.column);
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
  const Rounded out(kBits, in.rows, k, memory);
  constexpr std::size_t kBlock = block_inputs(kBits);
  HWY_ALIGN float values[kGroupSpace];
  HWY_ALIGN std::int8_t codes[kGroupSpace];
  for (std::size_t row = begin; row < end; ++row) {
    for (std::size_t group = 0; group < out.groups; ++group) {
      const std::size_t from = group * kGroupInputs, count = std::min(kGroupInputs, k - from);
      const std::size_t inputs = std::min(kGroupInputs, out.inputs - from), filled = round_up(inputs, kLanes);
      load_values(x + row * stride + from, count, filled, values);
      const Scale scale(greatest(values, filled));
      std::int32_t* sums = out.sums + row * out.blocks + from / kBlock;
      for (std::size_t at = 0; at < filled; at += kBlock)
        *sums++ =
            round_values(values + at, std::min(kBlock, filled - at), scale.inverse, -127, 127, 0, codes + at);
      std::memcpy(out.codes + row * out.inputs + from, codes, inputs);
      out.scales[row * out.groups + group] = scale.scale;
    }
  }
}

// Puts the codes of `inputs` inputs of output `output` in their places within a group.
template <Bits kBits>
void place_codes(const std::uint8_t* codes, std::size_t inputs, std::size_t output, std::uint8_t* group) {
  constexpr std::size_t kTogether = kBits == Bits::kEight ? kQuad : 2 * kQuad;
  group += output * kQuad;
  for (std::size_t i = 0; i < inputs; i += kTogether, group += kQuadBytes) {
    std::uint32_t quads[2] = {};
    std::memcpy(quads, codes + i, kTogether);
    quads[0] |= quads[1] << 4;
    std::memcpy(group, quads, kQuad);
  }
}

template <class T>
void round_output_of_8_bits(const T* weight, std::size_t k, const RoundedOutput& out) {
  HWY_ALIGN float values[kGroupSpace];
  HWY_ALIGN std::uint8_t codes[kGroupSpace];
  constexpr std::size_t kGroup = kGroupInputs;
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
    std::memcpy(out.codes + from, codes, filled);
  }
  out.scales[0] = scale.scale;
}

constexpr std::size_t kFactorInputs = block_inputs(Bits::kFour);
constexpr int kMostFactor = 15;

HWY_INLINE VF nearest_code(VF x, float inverse) {
  const VF q = hn::Round(hn::Mul(x, hn::Set(F(), inverse)));
  return hn::Min(hn::Max(q, hn::Set(F(), -8)), hn::Set(F(), 7));
}

// A block's factor for a step, and the squared error that it leaves: the best of four, around the one with which the
// value of greatest magnitude is -8.3 steps.
struct Factor {
  int factor = 0;
  float error = 0;
  Factor(const float* values, float most, int sign, float step) {
    const int middle = static_cast<int>(std::lround(most / (8.3F * step)));
    int factors[4];
    VF errors[4];
    for (int i = 0; i < 4; ++i) {
      factors[i] = sign * std::clamp(middle + i - 1, 0, kMostFactor);
      const float scale = static_cast<float>(factors[i]) * step, inverse = factors[i] != 0 ? 1 / scale : 0;
      errors[i] = hn::Zero(F());
      for (std::size_t at = 0; at < kFactorInputs; at += kLanes) {
        const VF x = hn::LoadU(F(), values + at);
        const VF left = hn::NegMulAdd(nearest_code(x, inverse), hn::Set(F(), scale), x);
        errors[i] = hn::MulAdd(left, left, errors[i]);
      }
    }
    float sums[4];
    sum_four(errors[0], errors[1], errors[2], errors[3], sums);
    const auto best = std::min_element(sums, sums + 4) - sums;
    factor = factors[best];
    error = sums[best];
  }
};

// Codes, step and factors of a group of `inputs` values of an output. Of two steps the one that leaves less error, made
// the best of its codes: (x . q) / (q . q).
struct FourBits {
  HWY_ALIGN std::uint8_t codes[kGroupInputs];
  float step = 0;
  std::int8_t factors[kGroupInputs / kFactorInputs] = {};

  FourBits(const float* values, std::size_t inputs) {
    float most[kGroupInputs / kFactorInputs], all = 0;
    int signs[kGroupInputs / kFactorInputs];
    for (std::size_t b = 0; b * kFactorInputs < inputs; ++b) {
      most[b] = greatest(values + b * kFactorInputs, kFactorInputs);
      if (std::isnan(most[b]) || most[b] > all) all = most[b];  // A NaN stays.
      // The code -8 is for the value of greatest magnitude, whatever its sign.
      VF least = hn::Zero(F());
      for (std::size_t i = 0; i < kFactorInputs; i += kLanes)
        least = hn::Min(least, hn::LoadU(F(), values + b * kFactorInputs + i));
      signs[b] = hn::GetLane(hn::MinOfLanes(F(), least)) == -most[b] ? 1 : -1;
    }
    std::fill(codes, codes + kGroupInputs, static_cast<std::uint8_t>(code_offset(Bits::kFour)));
    // Those too small to have an inverse are zeros.
    if (std::isnan(all)) step = all;
    if (!(all >= 1024 * std::numeric_limits<float>::min())) return;
    float least = -1;
    for (const float steps : {8.0F, 7.2F}) {
      const float candidate = all / (steps * kMostFactor);
      float error = 0;
      std::int8_t found[kGroupInputs / kFactorInputs] = {};
      for (std::size_t b = 0; b * kFactorInputs < inputs; ++b) {
        const Factor factor(values + b * kFactorInputs, most[b], signs[b], candidate);
        found[b] = static_cast<std::int8_t>(factor.factor);
        error += factor.error;
      }
      if (least >= 0 && error >= least) continue;
      least = error;
      step = candidate;
      std::copy(std::begin(found), std::end(found), factors);
    }
    round(values, inputs);
  }

 private:
  void round(const float* values, std::size_t inputs) {
    VF xq = hn::Zero(F()), qq = hn::Zero(F());
    const hn::Rebind<std::uint8_t, I> narrow;
    for (std::size_t i = 0; i < inputs; i += kLanes) {
      const std::size_t block = i / kFactorInputs;
      const auto factor = static_cast<float>(factors[block]);
      const VF x = hn::LoadU(F(), values + i), code = nearest_code(x, factor != 0 ? 1 / (factor * step) : 0);
      const VF q = hn::Mul(code, hn::Set(F(), factor));
      xq = hn::MulAdd(x, q, xq);
      qq = hn::MulAdd(q, q, qq);
      const VI offset = hn::Set(I(), code_offset(Bits::kFour));
      hn::StoreU(hn::DemoteTo(narrow, hn::Add(hn::ConvertTo(I(), code), offset)), narrow, codes + i);
    }
    const float square = hn::GetLane(hn::SumOfLanes(F(), qq));
    if (square > 0) step = hn::GetLane(hn::SumOfLanes(F(), xq)) / square;
  }
};

template <class T>
void round_output_of_4_bits(const T* weight, std::size_t k, const RoundedOutput& out) {
  HWY_ALIGN float values[kGroupInputs];
  for (std::size_t from = 0; from < k; from += kGroupInputs) {
    const std::size_t count = std::min(kGroupInputs, k - from), inputs = filled_inputs(Bits::kFour, count);
    load_values(weight + from, count, inputs, values);
    const FourBits group(values, inputs);
    std::memcpy(out.codes + from, group.codes, inputs);
    out.scales[from / kGroupInputs] = group.step;
    std::memcpy(out.factors + from / kFactorInputs, group.factors, sizeof(group.factors));
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

void RoundOutput(Bits bits, Type type, const void* weight, std::size_t k, const RoundedOutput& out) {
  with_type(type, [&](auto t) {
    const auto* row = static_cast<const decltype(t)*>(weight);
    if (bits == Bits::kEight) round_output_of_8_bits(row, k, out);
    if (bits == Bits::kFour) round_output_of_4_bits(row, k, out);
  });
}

void PlaceOutput(Bits bits, const RoundedOutput& from, std::size_t k, std::size_t output,
                 std::uint8_t* panel) {
  if (bits == Bits::kEight) {
    const std::size_t inputs = filled_inputs(bits, k);
    place_codes<Bits::kEight>(from.codes, inputs, output, panel);
    std::memcpy(panel + code_bytes(bits, inputs) + output * sizeof(float), from.scales, sizeof(float));
    return;
  }
  for (std::size_t at = 0; at < k; at += kGroupInputs) {
    const std::size_t inputs = filled_inputs(bits, std::min(kGroupInputs, k - at));
    place_codes<Bits::kFour>(from.codes + at, inputs, output, panel);
    panel += code_bytes(bits, inputs);
    std::memcpy(panel + output * sizeof(float), from.scales + at / kGroupInputs, sizeof(float));
    std::memcpy(panel + (kPanelOutputs + output) * sizeof(float), from.factors + at / kFactorInputs,
                kFactorsOfGroup);
    panel += kGroupScaleBytes;
  }
}

void Round(Bits bits, const RowsToRound& rows, std::size_t begin, std::size_t end, void* rounded) {
  with_type(rows.type, [&](auto t) {
    using T = decltype(t);
    if (bits == Bits::kEight) round_rows_typed<Bits::kEight, T>(rows, begin, end, rounded);
    if (bits == Bits::kFour) round_rows_typed<Bits::kFour, T>(rows, begin, end, rounded);
  });
}

void Compute(const QuantizedGemm& g, std::size_t row_begin, std::size_t row_end, std::size_t panel,
             float* scratch) {
#if HWY_TARGET == HWY_AVX3
  const GroupProducts& products = has_byte_products() ? products_of<true>(g.bits, row_end - row_begin)
                                                      : products_of<false>(g.bits, row_end - row_begin);
#else
  const GroupProducts& products = products_of<false>(g.bits, row_end - row_begin);
#endif
  with_type(g.type,
            [&](auto t) { gemm_typed<decltype(t)>(g, products, row_begin, row_end, panel, scratch); });
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(RoundOutput);
HWY_EXPORT(PlaceOutput);
HWY_EXPORT(Round);
HWY_EXPORT(Compute);

void round_output(Bits bits, Type type, const void* weight, std::size_t k, const RoundedOutput& out) {
  HWY_DYNAMIC_DISPATCH(RoundOutput)(bits, type, weight, k, out);
}

void place_output(Bits bits, const RoundedOutput& from, std::size_t k, std::size_t output,
                  std::uint8_t* panel) {
  HWY_DYNAMIC_DISPATCH(PlaceOutput)(bits, from, k, output, panel);
}

void round_rows(Bits bits, const RowsToRound& rows, std::size_t begin, std::size_t end, void* rounded) {
  HWY_DYNAMIC_DISPATCH(Round)(bits, rows, begin, end, rounded);
}

void quantized_gemm(const QuantizedGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel,
                    float* scratch) {
  HWY_DYNAMIC_DISPATCH(Compute)(gemm, row_begin, row_end, panel, scratch);
}

}  // namespace tte::kernels::simd
#endif
