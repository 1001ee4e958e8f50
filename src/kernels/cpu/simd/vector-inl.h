// Vectors of float32 and how float32, bfloat16 and float16 values get in and out of them. Compiled once per
// instruction set: include it only inside a foreach_target file.
#if defined(TTE_KERNELS_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TTE_KERNELS_VECTOR_INL_H_
#undef TTE_KERNELS_VECTOR_INL_H_
#else
#define TTE_KERNELS_VECTOR_INL_H_
#endif

#undef TTE_KERNELS_PAIRS

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/types.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using BFloat16 = hwy::bfloat16_t;
using Half = hwy::float16_t;
using F = hn::ScalableTag<float>;
using U = hn::RebindToUnsigned<F>;
using VF = hn::Vec<F>;
using VU = hn::Vec<U>;
using I = hn::RebindToSigned<F>;
using VI = hn::Vec<I>;

inline constexpr std::size_t kLanes = HWY_LANES(float);
// Values are taken in steps of two vectors, because a vector of two-byte values widens to two of float32.
inline constexpr std::size_t kStep = 2 * kLanes;

// Calls body(t) with a value t of the type that `type` names: the type of t alone matters.
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

struct Pair {
  VF a, b;
};

// v itself, loaded into a register: compilers like to repeat the load in every instruction that uses v.
HWY_INLINE VF keep(VF v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  __asm__("" : "+v"(v.raw));
#endif
  return v;
}

// The bits of one step of bfloat16 values.
HWY_INLINE VF load_bits(const BFloat16* p) {
  return hn::BitCast(F(), hn::LoadU(U(), reinterpret_cast<const std::uint32_t*>(p)));
}

// AVX512_BF16, for which this Highway has no target of its own: the processor is asked (host.h) before use.
#if HWY_TARGET == HWY_AVX3
#define TTE_KERNELS_PAIRS 1
// acc + x[2 i] * y[2 i] + x[2 i + 1] * y[2 i + 1] for the pairs of bfloat16 values in each lane.
HWY_INLINE VF add_products_of_pairs(VF acc, VF x, VF y) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc.raw) : "v"(x.raw), "v"(y.raw));
  return acc;
}
#else
#define TTE_KERNELS_PAIRS 0
#endif

HWY_INLINE VF widen_even(VU raw) {
  return hn::BitCast(F(), hn::ShiftLeft<16>(raw));
}
HWY_INLINE VF widen_odd(VU raw) {
  return hn::BitCast(F(), hn::And(raw, hn::Set(U(), 0xFFFF0000u)));
}

// The bits of v rounded to bfloat16 (to nearest, ties to even) in the upper half of each lane; the lower is garbage.
HWY_INLINE VU round_to_bfloat16(VF v) {
  const U u;
  const VU bits = hn::BitCast(u, v);
  const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 1u));
  const VU rounded = hn::Add(bits, hn::Add(odd, hn::Set(u, 0x7FFFu)));
  const VU quiet_nan = hn::Or(bits, hn::Set(u, 0x00400000u));
  return hn::IfThenElse(hn::RebindMask(u, hn::IsNaN(v)), quiet_nan, rounded);
}

// Without instructions for float16, Highway's own functions know no infinity and no NaN, and cut mantissas off.
#define TTE_KERNELS_HALF_BY_HAND \
  (HWY_TARGET >= HWY_SSE4 || HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR)

// v as a float16, rounded to nearest, ties to even.
HWY_INLINE hn::Vec<hn::Rebind<Half, F>> to_half(VF v) {
  const hn::Rebind<Half, F> half;
#if TTE_KERNELS_HALF_BY_HAND
  const U u;
  const F f;
  const VU bits = hn::BitCast(u, v);
  const VF magnitude = hn::Abs(v);
  const VU odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(u, 1u));
  const VU rounded = hn::Add(hn::BitCast(u, magnitude), hn::Add(odd, hn::Set(u, 0x0FFFu)));
  const VU normal = hn::Sub(hn::ShiftRight<13>(rounded), hn::Set(u, 112u << 10));  // The exponents' biases.
  // Below 2^-14 a float16 counts in 2^-24, and so does a float32 from 0.5 to 1.
  const VU count = hn::Sub(hn::BitCast(u, hn::Add(magnitude, hn::Set(f, 0.5f))), hn::Set(u, 0x3F000000u));
  const auto when = [&](auto mask) { return hn::RebindMask(u, mask); };
  VU result = hn::IfThenElse(when(hn::Lt(magnitude, hn::Set(f, 6.103515625e-05f))), count, normal);
  result = hn::IfThenElse(when(hn::Ge(magnitude, hn::Set(f, 65520.0f))), hn::Set(u, 0x7C00u), result);
  result = hn::IfThenElse(when(hn::IsNaN(v)), hn::Set(u, 0x7E00u), result);
  result = hn::Or(result, hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 0x8000u)));
  const hn::Rebind<std::uint16_t, F> narrow;
  return hn::BitCast(half, hn::DemoteTo(narrow, hn::BitCast(hn::RebindToSigned<F>(), result)));
#else
  return hn::DemoteTo(half, v);
#endif
}

template <class D>
HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<hn::Rebind<Half, D>> v) {
  const hn::Vec<D> wide = hn::PromoteTo(d, v);
#if TTE_KERNELS_HALF_BY_HAND
  // What is not finite has the exponent that would come after the largest one.
  return hn::IfThenElse(hn::Ge(hn::Abs(wide), hn::Set(d, 65536.0f)), hn::Or(wide, hn::Inf(d)), wide);
#else
  return wide;
#endif
}

// One step of values in some order that is the same for all functions *_pair of a type (bfloat16: even and
// odd ones), so that work on single values and sums need no shuffles.
HWY_INLINE VF load_first(const float* p) {
  return hn::LoadU(F(), p);
}
HWY_INLINE VF load_second(const float* p) {
  return hn::LoadU(F(), p + kLanes);
}
HWY_INLINE VF load_first(const BFloat16* p) {
  return widen_even(hn::LoadU(U(), reinterpret_cast<const std::uint32_t*>(p)));
}
HWY_INLINE VF load_second(const BFloat16* p) {
  return widen_odd(hn::LoadU(U(), reinterpret_cast<const std::uint32_t*>(p)));
}
HWY_INLINE VF load_first(const Half* p) {
  return widen(F(), hn::LoadU(hn::Rebind<Half, F>(), p));
}
HWY_INLINE VF load_second(const Half* p) {
  return load_first(p + kLanes);
}
template <class T>
HWY_INLINE Pair load_pair(const T* p) {
  return {load_first(p), load_second(p)};
}

HWY_INLINE void store_pair(Pair v, float* p) {
  hn::StoreU(v.a, F(), p);
  hn::StoreU(v.b, F(), p + kLanes);
}
HWY_INLINE void store_pair(Pair v, BFloat16* p) {
  const VU even = hn::ShiftRight<16>(round_to_bfloat16(v.a));
  const VU odd = hn::And(round_to_bfloat16(v.b), hn::Set(U(), 0xFFFF0000u));
  hn::StoreU(hn::Or(even, odd), U(), reinterpret_cast<std::uint32_t*>(p));
}
HWY_INLINE void store_pair(Pair v, Half* p) {
  const hn::Rebind<Half, F> narrow;
  hn::StoreU(to_half(v.a), narrow, p);
  hn::StoreU(to_half(v.b), narrow, p + kLanes);
}

// A step cut short: missing values are read as zeros and not written.
template <class T>
HWY_INLINE Pair load_some(const T* p, std::size_t count) {
  T buffer[kStep];
  std::memset(buffer, 0, sizeof(buffer));
  std::memcpy(buffer, p, count * sizeof(T));
  return load_pair(buffer);
}
#if HWY_TARGET == HWY_AVX3
// Without the buffer, for which a load right behind the stores would wait.
HWY_INLINE Pair load_some(const BFloat16* p, std::size_t count) {
  const hn::Repartition<std::uint16_t, U> halves;
  const auto raw =
      hn::MaskedLoad(hn::FirstN(halves, count), halves, reinterpret_cast<const std::uint16_t*>(p));
  return {widen_even(hn::BitCast(U(), raw)), widen_odd(hn::BitCast(U(), raw))};
}
#endif
template <class T>
HWY_INLINE void store_some(Pair v, T* p, std::size_t count) {
  T buffer[kStep];
  store_pair(v, buffer);
  std::memcpy(p, buffer, count * sizeof(T));
}

// Values in their own order.
template <class D>
HWY_INLINE hn::Vec<D> load_natural(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load_natural(D d, const BFloat16* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<BFloat16, D>(), p));
}
template <class D>
HWY_INLINE hn::Vec<D> load_natural(D d, const Half* p) {
  return widen(d, hn::LoadU(hn::Rebind<Half, D>(), p));
}

HWY_INLINE void store_natural(VF v, float* p) {
  hn::StoreU(v, F(), p);
}
HWY_INLINE void store_natural(VF v, BFloat16* p) {
  const hn::Rebind<std::uint16_t, F> narrow;
  const VU upper = hn::ShiftRight<16>(round_to_bfloat16(v));
  hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(hn::RebindToSigned<F>(), upper)), narrow,
             reinterpret_cast<std::uint16_t*>(p));
}
HWY_INLINE void store_natural(VF v, Half* p) {
  const hn::Rebind<Half, F> narrow;
  hn::StoreU(to_half(v), narrow, p);
}

// A row of sums, plus the bias where there is one, as a row of the result.
template <class T, class Out>
HWY_INLINE void finish_row(const float* c, const T* bias, std::size_t columns, Out* out) {
  std::size_t n = 0;
  for (; n + kLanes <= columns; n += kLanes) {
    VF v = hn::LoadU(F(), c + n);
    if (bias != nullptr) v = hn::Add(v, load_natural(F(), bias + n));
    store_natural(v, out + n);
  }
  if (n == columns) return;
  // The rest through buffers, so that rounding is the vectors' own.
  float values[kLanes] = {};
  T biases[kLanes] = {};
  Out rounded[kLanes];
  std::copy(c + n, c + columns, values);
  if (bias != nullptr) std::copy(bias + n, bias + columns, biases);
  VF v = hn::LoadU(F(), values);
  if (bias != nullptr) v = hn::Add(v, load_natural(F(), biases));
  store_natural(v, rounded);
  std::copy(rounded, rounded + (columns - n), out + n);
}

// The same at `at` in a result of float32, or of the bias's type.
template <class T>
HWY_INLINE void finish_row(const float* c, const T* bias, std::size_t columns, Type out_type, void* out,
                           std::size_t at) {
  if (out_type == Type::kFloat) return finish_row(c, bias, columns, static_cast<float*>(out) + at);
  finish_row(c, bias, columns, static_cast<T*>(out) + at);
}

#if HWY_TARGET != HWY_SCALAR
// The sums of four lanes each: [a b c d] in every block of four.
HWY_INLINE VF sums_of_blocks(VF a, VF b, VF c, VF d) {
  const F f;
  const hn::RepartitionToWide<U> wide;
  // Within each block of four lanes: [a02 b02 a13 b13] and [c02 d02 c13 d13].
  const auto ab = hn::BitCast(wide, hn::Add(hn::InterleaveLower(f, a, b), hn::InterleaveUpper(f, a, b)));
  const auto cd = hn::BitCast(wide, hn::Add(hn::InterleaveLower(f, c, d), hn::InterleaveUpper(f, c, d)));
  return hn::Add(hn::BitCast(f, hn::InterleaveLower(wide, ab, cd)),
                 hn::BitCast(f, hn::InterleaveUpper(wide, ab, cd)));
}
#endif

// The sums of the lanes of a, b, c and d. Each sum is formed in the same order.
HWY_INLINE void sum_four(VF a, VF b, VF c, VF d, float* HWY_RESTRICT sums) {
#if HWY_TARGET == HWY_SCALAR
  sums[0] = hn::GetLane(a);
  sums[1] = hn::GetLane(b);
  sums[2] = hn::GetLane(c);
  sums[3] = hn::GetLane(d);
#else
  const VF blocks = sums_of_blocks(a, b, c, d);
  const hn::FixedTag<float, 4> four;
#if HWY_MAX_BYTES == 16
  hn::StoreU(blocks, four, sums);
#elif HWY_MAX_BYTES == 32
  hn::StoreU(hn::Add(hn::LowerHalf(four, blocks), hn::UpperHalf(four, blocks)), four, sums);
#else
  static_assert(HWY_MAX_BYTES == 64, "add a step for longer vectors");
  const hn::FixedTag<float, 8> eight;
  const auto halves = hn::Add(hn::LowerHalf(eight, blocks), hn::UpperHalf(eight, blocks));
  hn::StoreU(hn::Add(hn::LowerHalf(four, halves), hn::UpperHalf(four, halves)), four, sums);
#endif
#endif
}

}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TTE_KERNELS_VECTOR_INL_H_
