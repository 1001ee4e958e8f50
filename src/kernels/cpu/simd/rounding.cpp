// Numbers of floating point into the codes, scales and factors of quantized.h. What is kept in files is the same on
// every processor: values are compared and divided one by one, and sums have an order of their own (Sixteen).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/simd/quantized.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/rounding.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep

#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

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

// Sums in sixteen lanes, however many a vector has.
class Sixteen {
 public:
  static constexpr std::size_t kVectors = 16 / kLanes;

  Sixteen() {
    for (VF& v : sums_) v = hn::Zero(F());
  }
  VF& operator[](std::size_t vector) { return sums_[vector]; }
  const VF& operator[](std::size_t vector) const { return sums_[vector]; }

  // The sums of lanes i, i + 4, i + 8 and i + 12, as a vector of sixteen lanes that is halved twice gives them.
  void quarter(float* HWY_RESTRICT out) const {
#if HWY_TARGET == HWY_SCALAR
    for (std::size_t i = 0; i < 4; ++i)
      out[i] = (sums_[i].raw + sums_[i + 8].raw) + (sums_[i + 4].raw + sums_[i + 12].raw);
#else
    const hn::FixedTag<float, 4> four;
#if HWY_MAX_BYTES == 16
    hn::StoreU(hn::Add(hn::Add(sums_[0], sums_[2]), hn::Add(sums_[1], sums_[3])), four, out);
#elif HWY_MAX_BYTES == 32
    const VF half = hn::Add(sums_[0], sums_[1]);
    hn::StoreU(hn::Add(hn::LowerHalf(four, half), hn::UpperHalf(four, half)), four, out);
#else
    const hn::FixedTag<float, 8> eight;
    const auto half = hn::Add(hn::LowerHalf(eight, sums_[0]), hn::UpperHalf(eight, sums_[0]));
    hn::StoreU(hn::Add(hn::LowerHalf(four, half), hn::UpperHalf(four, half)), four, out);
#endif
#endif
  }
  [[nodiscard]] float sum() const {
    float of[4];
    quarter(of);
    return (of[0] + of[2]) + (of[1] + of[3]);
  }

 private:
  VF sums_[kVectors];
};

// The sums of four, each block of four lanes first.
HWY_INLINE void sum_four(const Sixteen (&of)[4], float* HWY_RESTRICT sums) {
#if HWY_TARGET == HWY_SCALAR
  for (std::size_t i = 0; i < 4; ++i) {
    float blocks[4];
    for (std::size_t b = 0; b < 4; ++b)
      blocks[b] = (of[i][4 * b].raw + of[i][4 * b + 2].raw) + (of[i][4 * b + 1].raw + of[i][4 * b + 3].raw);
    sums[i] = (blocks[0] + blocks[2]) + (blocks[1] + blocks[3]);
  }
#else
  Sixteen blocks;
  for (std::size_t v = 0; v < Sixteen::kVectors; ++v)
    blocks[v] = sums_of_blocks(of[0][v], of[1][v], of[2][v], of[3][v]);
  blocks.quarter(sums);
#endif
}

// a * b + c, rounded once.
HWY_INLINE VF fused(VF a, VF b, VF c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  float x[kLanes], y[kLanes], z[kLanes];
  hn::StoreU(a, F(), x);
  hn::StoreU(b, F(), y);
  hn::StoreU(c, F(), z);
  for (std::size_t i = 0; i < kLanes; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return hn::LoadU(F(), z);
#endif
}

// The nearest whole number, of two the even one. Highway's own for single numbers makes 1 of the float32 below 0.5.
HWY_INLINE VF nearest(VF x) {
#if HWY_TARGET == HWY_SCALAR
  return VF(std::nearbyint(x.raw));
#else
  return hn::Round(x);
#endif
}
HWY_INLINE VI nearest_int(VF x) {
#if HWY_TARGET == HWY_SCALAR
  return hn::ConvertTo(I(), nearest(x));
#else
  return hn::NearestInt(x);
#endif
}

// The greatest magnitude of `count` values, a multiple of kLanes; NaN if one is not finite.
HWY_INLINE float greatest(const float* values, std::size_t count) {
  VF most = hn::Zero(F()), nothing = hn::Zero(F());
  for (std::size_t i = 0; i < count; i += kLanes) {
    const VF v = hn::LoadU(F(), values + i);
    most = hn::Max(most, hn::Abs(v));
    nothing = hn::MulAdd(v, hn::Zero(F()), nothing);
  }
  if (std::isnan(hn::GetLane(hn::SumOfLanes(F(), nothing)))) return std::numeric_limits<float>::quiet_NaN();
  return hn::GetLane(hn::MaxOfLanes(F(), most));
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
    const VI whole = nearest_int(hn::Mul(hn::LoadU(F(), values + i), hn::Set(F(), inverse)));
    const VI code = hn::Min(hn::Max(whole, hn::Set(I(), least)), hn::Set(I(), most));
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
  if (std::isnan(most)) {
    std::fill_n(out.codes, inputs, static_cast<std::uint8_t>(code_offset(Bits::kEight)));
    out.scales[0] = most;
    return;
  }
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
  const VF q = nearest(hn::Mul(x, hn::Set(F(), inverse)));
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
    Sixteen errors[4];
    for (int i = 0; i < 4; ++i) {
      factors[i] = sign * std::clamp(middle + i - 1, 0, kMostFactor);
      const float scale = static_cast<float>(factors[i]) * step, inverse = factors[i] != 0 ? 1 / scale : 0;
      for (std::size_t at = 0; at < kFactorInputs; at += kLanes) {
        const VF x = hn::LoadU(F(), values + at);
        const VF left = fused(nearest_code(x, inverse), hn::Set(F(), -scale), x);
        VF& error_here = errors[i][at / kLanes % Sixteen::kVectors];
        error_here = fused(left, left, error_here);
      }
    }
    float sums[4];
    sum_four(errors, sums);
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
    Sixteen xq;
    VF qq = hn::Zero(F());  // Of whole numbers, in any order.
    const hn::Rebind<std::uint8_t, I> narrow;
    for (std::size_t i = 0; i < inputs; i += kLanes) {
      const std::size_t block = i / kFactorInputs;
      const auto factor = static_cast<float>(factors[block]);
      const VF x = hn::LoadU(F(), values + i), code = nearest_code(x, factor != 0 ? 1 / (factor * step) : 0);
      const VF q = hn::Mul(code, hn::Set(F(), factor));
      VF& sum = xq[i / kLanes % Sixteen::kVectors];
      sum = fused(x, q, sum);
      qq = hn::MulAdd(q, q, qq);
      const VI offset = hn::Set(I(), code_offset(Bits::kFour));
      hn::StoreU(hn::DemoteTo(narrow, hn::Add(hn::ConvertTo(I(), code), offset)), narrow, codes + i);
    }
    const float square = hn::GetLane(hn::SumOfLanes(F(), qq));
    if (square > 0) step = xq.sum() / square;
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

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(RoundOutput);
HWY_EXPORT(PlaceOutput);
HWY_EXPORT(Round);

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

}  // namespace tte::kernels::simd
#endif
