#include "kernels/cpu/simd/quantized.h"

#include <algorithm>
#include <array>

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
  kEight,    // Codes of 8 bits, one scale a panel.
  kFour,     // Codes of 4 bits.
  kWidened,  // Codes of 4 bits times their factors: bytes that widen() made.
};
constexpr Bits bits_of(Codes codes) {
  return codes == Codes::kEight ? Bits::kEight : Bits::kFour;
}

// What comes from memory is asked for this many bytes before: the first rows' products take less time than it.
constexpr std::size_t kAhead = 4096;

// Which codes of a byte are multiplied: one of 8 bits, or of two of 4 bits the one of the earlier inputs or, times 16,
// of the later ones. As many shifts are saved as there are bytes: the sum of the later ones is shifted.
enum class Part : std::uint8_t { kAll, kLow, kHigh };

// acc[m * N + n] += x[m] . w[n] over `inputs` inputs; the rows of x are x_stride values apart.
template <Part kPart, bool kVnni, bool kAsks, std::size_t M, std::size_t N>
HWY_INLINE void multiply_codes(const std::int8_t* x, std::size_t x_stride, const std::uint8_t* w,
                               std::size_t inputs, VI* HWY_RESTRICT acc) {
  constexpr std::size_t kVectorBytes = kLanes * kQuad;
  const VI mask = hn::BitCast(I(), hn::Set(U(), kPart == Part::kLow ? 0x0F0F0F0FU : 0xF0F0F0F0U));
  if (kPart == Part::kHigh) x += kQuad;
  for (std::size_t i = 0; i < inputs; i += kPart == Part::kAll ? kQuad : 2 * kQuad, w += kQuadBytes) {
    VI ws[N];
    for (std::size_t n = 0; n < N; ++n) {
      if constexpr (kAsks) hwy::Prefetch(w + kAhead + n * kVectorBytes);
      ws[n] = load_codes(w + n * kVectorBytes);
      if constexpr (kPart != Part::kAll) ws[n] = hn::And(ws[n], mask);
    }
    for (std::size_t m = 0; m < M; ++m) {
      const VI v = quad_of(x + m * x_stride + i);
      for (std::size_t n = 0; n < N; ++n)
        acc[m * N + n] = add_products_of_quads<kVnni>(acc[m * N + n], ws[n], v);
    }
  }
}

// The steps and factors of some vectors of outputs of a 4-bit group, whose `scales` stand behind its codes.
HWY_INLINE VF load_steps(const std::uint8_t* scales, std::size_t output) {
  return hn::LoadU(F(), reinterpret_cast<const float*>(scales) + output);
}
HWY_INLINE VI load_all_factors(const std::uint8_t* scales, std::size_t output) {
  return load_codes(scales + kPanelOutputs * sizeof(float) + output * sizeof(std::uint32_t));
}
HWY_INLINE VI factors_of(VI all, std::size_t block) {
  return hn::ShiftRight<24>(hn::ShiftLeftSame(all, static_cast<int>(24 - 8 * block)));
}

// sums + first * the factors of block `kBlock` + second * those of the block after the next.
template <std::size_t kBlock>
HWY_INLINE VI add_blocks(VI sums, VI first, VI second, VI factors) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  // 32 products of 4 and 8 bits are a number of 16: two blocks share a lane, as their factors do. As above, `unused`.
  const hn::Repartition<std::int16_t, I> half;
  const auto both = hn::OddEven(hn::BitCast(half, hn::ShiftLeft<16>(second)), hn::BitCast(half, first));
  const auto bytes = hn::BitCast(half, factors);
  const auto of_both = hn::ShiftRight<8>(kBlock == 0 ? hn::ShiftLeft<8>(bytes) : bytes);
  VI unused = hn::Zero(I());
  return hn::ReorderWidenMulAccumulate(I(), both, of_both, sums, unused);
#else
  sums = hn::Add(sums, hn::Mul(first, factors_of(factors, kBlock)));
  return hn::Add(sums, hn::Mul(second, factors_of(factors, kBlock + 2)));
#endif
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

// A group of `inputs` inputs: rows of x, whose codes begin at `codes` and the sums of whose blocks at `sums_of_x`, and
// the codes of a panel's outputs.
struct Group {
  const Rounded& x;
  const std::int8_t* codes;
  const std::int32_t* sums_of_x;
  const std::uint8_t* w;
  std::size_t inputs;
};

// sums[m * N + n] = x[m] . w[n], in whole numbers, for codes of 8 bits.
template <bool kVnni, bool kAsks, std::size_t M, std::size_t N>
HWY_INLINE void multiply_bytes(const Group& group, std::size_t blocks, VI* HWY_RESTRICT sums) {
  for (std::size_t m = 0; m < M; ++m) {
    std::int32_t sum = 0;
    for (std::size_t b = 0; b < blocks; ++b) sum += group.sums_of_x[m * group.x.blocks + b];
    const VI offset = hn::Set(I(), -code_offset(Bits::kEight) * sum);
    for (std::size_t n = 0; n < N; ++n) sums[m * N + n] = offset;
  }
  multiply_codes<Part::kAll, kVnni, kAsks, M, N>(group.codes, group.x.inputs, group.w, group.inputs, sums);
}

// The same of one block of codes of 4 bits; zeros where the group has no such block.
template <bool kVnni, bool kAsks, std::size_t M, std::size_t N>
HWY_INLINE void multiply_block(const Group& group, std::size_t block, VI* HWY_RESTRICT sums) {
  constexpr std::size_t kBlock = block_inputs(Bits::kFour);
  for (std::size_t i = 0; i < M * N; ++i) sums[i] = hn::Zero(I());
  if (block * kBlock >= group.inputs) return;
  const std::int8_t* codes = group.codes + block * kBlock;
  const std::uint8_t* w = group.w + code_bytes(Bits::kFour, block * kBlock);
  multiply_codes<Part::kHigh, kVnni, kAsks, M, N>(codes, group.x.inputs, w, kBlock, sums);
  for (std::size_t m = 0; m < M; ++m) {
    const VI offset = hn::Set(I(), -code_offset(Bits::kFour) * group.sums_of_x[m * group.x.blocks + block]);
    for (std::size_t n = 0; n < N; ++n) sums[m * N + n] = hn::Add(hn::ShiftRight<4>(sums[m * N + n]), offset);
  }
  multiply_codes<Part::kLow, kVnni, false, M, N>(codes, group.x.inputs, w, kBlock, sums);
}

// sums += blocks kBlock and kBlock + 2, times their factors, which stand at `scales` with all of the group's.
template <std::size_t kBlock, bool kVnni, bool kAsks, std::size_t M, std::size_t N>
HWY_INLINE void add_two_blocks(const Group& group, const std::uint8_t* scales, std::size_t output,
                               VI* HWY_RESTRICT sums) {
  VI first[M * N], second[M * N];
  multiply_block<kVnni, kAsks, M, N>(group, kBlock, first);
  multiply_block<kVnni, kAsks, M, N>(group, kBlock + 2, second);
  for (std::size_t n = 0; n < N; ++n) {
    const VI factors = load_all_factors(scales, output + n * kLanes);
    for (std::size_t i = n; i < M * N; i += N)
      sums[i] = add_blocks<kBlock>(sums[i], first[i], second[i], factors);
  }
}

// sums[m * N + n] = x[m] . w[n] over a group, in whole numbers.
template <Codes kCodes, bool kVnni, bool kAsks, std::size_t M, std::size_t N>
HWY_INLINE void multiply_group(const Group& group, const std::uint8_t* scales, std::size_t output,
                               VI* HWY_RESTRICT sums) {
  static_assert(kFactorsOfGroup == 4);
  if constexpr (kCodes != Codes::kFour) {
    const std::size_t blocks = kCodes == Codes::kEight ? 1 : blocks_of(Bits::kFour, group.inputs);
    multiply_bytes<kVnni, kAsks, M, N>(group, blocks, sums);
  } else {
    for (std::size_t i = 0; i < M * N; ++i) sums[i] = hn::Zero(I());
    add_two_blocks<0, kVnni, kAsks, M, N>(group, scales, output, sums);
    add_two_blocks<1, kVnni, kAsks, M, N>(group, scales, output, sums);
  }
}

// c[m * kPanelOutputs + n] (+)= x[m] . w[n] over some groups, for M rows of x and N vectors of a panel's outputs, from
// `output` on; without the scales of an 8-bit panel.
template <Codes kCodes, bool kVnni, bool kAsks, std::size_t M, std::size_t N>
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
    const Group codes{x, x.codes + row * x.inputs + from,
                      x.sums + row * x.blocks + from / block_inputs(bits_of(kCodes)), w, inputs};
    multiply_group<kCodes, kVnni, kAsks, M, N>(codes, scales, output, sums);
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

template <Codes kCodes, bool kVnni, bool kAsks, std::size_t M>
HWY_NOINLINE void panel_rows(const Rounded& x, std::size_t row, const Groups& groups, float* c) {
  // As many vectors of outputs as leave the registers room.
  constexpr std::size_t kVectors = HWY_MAX_BYTES == 64 ? (kCodes == Codes::kFour && M > 3 ? 2 : 4) : 2;
  constexpr std::size_t kWide = std::min(kVectors, kPanelOutputs / kLanes);
  for (std::size_t output = 0; output < kPanelOutputs; output += kWide * kLanes)
    tile<kCodes, kVnni, kAsks, M, kWide>(x, row, groups, output, c + output);
}

// The products of up to kGroupRows rows of x with a panel's groups: of the first rows, which ask for them from memory,
// and of all others.
struct GroupProducts {
  using Function = void (*)(const Rounded&, std::size_t, const Groups&, float*);
  bool is_widened;
  Function of_first[6], of_rows[6];
};
constexpr std::size_t kGroupRows = HWY_MAX_BYTES == 64 ? 6 : 3;

template <Codes kCodes, bool kVnni, bool kIsWidened = kCodes == Codes::kWidened>
constexpr GroupProducts kProducts{
    kIsWidened,
    {panel_rows<kCodes, kVnni, !kIsWidened, 1>, panel_rows<kCodes, kVnni, !kIsWidened, 2>,
     panel_rows<kCodes, kVnni, !kIsWidened, 3>, panel_rows<kCodes, kVnni, !kIsWidened, 4>,
     panel_rows<kCodes, kVnni, !kIsWidened, 5>, panel_rows<kCodes, kVnni, !kIsWidened, 6>},
    {panel_rows<kCodes, kVnni, false, 1>, panel_rows<kCodes, kVnni, false, 2>,
     panel_rows<kCodes, kVnni, false, 3>, panel_rows<kCodes, kVnni, false, 4>,
     panel_rows<kCodes, kVnni, false, 5>, panel_rows<kCodes, kVnni, false, 6>}};

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
        const VI factors = factors_of(load_all_factors(scales, output), from / kBlock);
        // Four bytes at once: (code + 8) * factor + 128 - 8 * factor is from 0 to 255 in each.
        const VI offset =
            hn::Mul(ones, hn::Sub(hn::Set(I(), code_offset(Bits::kEight)), hn::ShiftLeft<3>(factors)));
        const std::uint8_t* w = codes + code_bytes(Bits::kFour, from) + output * kQuad;
        std::uint8_t* to = widened + code_bytes(Bits::kEight, from) + output * kQuad;
        for (std::size_t i = 0; i < kBlock; i += 2 * kQuad, w += kQuadBytes, to += 2 * kQuadBytes) {
          hwy::Prefetch(w + kAhead);
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
      const auto& functions = row == row_begin ? products.of_first : products.of_rows;
      functions[std::min(kGroupRows, row_end - row) - 1](x, row, groups,
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
               (row - g.out_row) * g.columns + part.column);
  }
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

HWY_EXPORT(Compute);

void quantized_gemm(const QuantizedGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel,
                    float* scratch) {
  HWY_DYNAMIC_DISPATCH(Compute)(gemm, row_begin, row_end, panel, scratch);
}

}  // namespace tte::kernels::simd
#endif
