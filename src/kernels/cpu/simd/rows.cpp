#include "kernels/cpu/simd/rows.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/rows.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "kernels/cpu/simd/targets.h"

#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

// A whole step of a row, or what is left of it.
struct Whole {};
struct Part {
  std::size_t count;
};

template <class T>
HWY_INLINE Pair load(const T* p, Whole) {
  return load_pair(p);
}
template <class T>
HWY_INLINE Pair load(const T* p, Part part) {
  return load_some(p, part.count);
}
template <class T>
HWY_INLINE void store(Pair v, T* p, Whole) {
  store_pair(v, p);
}
template <class T>
HWY_INLINE void store(Pair v, T* p, Part part) {
  store_some(v, p, part.count);
}

// Calls body(i, Whole or Part) for the steps of n values.
template <class Body>
HWY_INLINE void for_steps(std::size_t n, const Body& body) {
  std::size_t i = 0;
  for (; i + kStep <= n; i += kStep) body(i, Whole{});
  if (i < n) body(i, Part{n - i});
}

HWY_INLINE Pair operator+(Pair x, Pair y) {
  return {hn::Add(x.a, y.a), hn::Add(x.b, y.b)};
}
HWY_INLINE Pair operator*(Pair x, Pair y) {
  return {hn::Mul(x.a, y.a), hn::Mul(x.b, y.b)};
}
HWY_INLINE Pair operator*(Pair x, VF y) {
  return {hn::Mul(x.a, y), hn::Mul(x.b, y)};
}
HWY_INLINE Pair multiply_add(Pair x, Pair y, Pair z) {
  return {hn::MulAdd(x.a, y.a, z.a), hn::MulAdd(x.b, y.b, z.b)};
}
HWY_INLINE Pair zero() {
  return {hn::Zero(F()), hn::Zero(F())};
}

// v, with zeros instead of the values that a cut step does not have.
template <class T>
HWY_INLINE Pair present(Pair v, const T*, Whole) {
  return v;
}
template <class T>
HWY_INLINE Pair present(Pair v, const T*, Part part) {
  const std::uint32_t one = std::is_same_v<T, float>      ? 0x3F800000u
                            : std::is_same_v<T, BFloat16> ? 0x3F80u
                                                          : 0x3C00u;
  T ones[kStep];
  for (T& value : ones)
    std::memcpy(&value, &one, sizeof(T));  // Little endian, as all hosts that torch runs on.
  return v * load_some(ones, part.count);
}

HWY_INLINE float sum(Pair x) {
  return hn::GetLane(hn::SumOfLanes(F(), hn::Add(x.a, x.b)));
}

// Rounded to T and widened again.
HWY_INLINE Pair round_to(Pair v, const float*) {
  return v;
}
HWY_INLINE Pair round_to(Pair v, const BFloat16*) {
  const VU upper = hn::Set(U(), 0xFFFF0000u);
  return {hn::BitCast(F(), hn::And(round_to_bfloat16(v.a), upper)),
          hn::BitCast(F(), hn::And(round_to_bfloat16(v.b), upper))};
}
HWY_INLINE Pair round_to(Pair v, const Half*) {
  return {widen(F(), to_half(v.a)), widen(F(), to_half(v.b))};
}

// x / (1 + exp(-z)), without overflow.
HWY_INLINE VF gate(VF x, VF z) {
  const F f;
  const VF e = hn::Exp(f, hn::Min(hn::Neg(z), hn::Set(f, 88.0f)));
  return hn::Div(x, hn::Add(hn::Set(f, 1.0f), e));
}
HWY_INLINE VF silu(VF x) {
  return gate(x, x);
}
HWY_INLINE VF quick_gelu(VF x) {
  return gate(x, hn::Mul(x, hn::Set(F(), 1.702f)));
}
// x / 2 * (1 + tanh(u)) is x / (1 + exp(-2 u)).
HWY_INLINE VF gelu_tanh(VF x) {
  const F f;
  const VF cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(f, 0.044715f), hn::Set(f, 1.0f));
  return gate(x, hn::Mul(hn::Mul(x, cubic), hn::Set(f, 1.5957691216057308f)));  // 2 sqrt(2 / pi).
}

// x Phi(x). ATen's own rounds to 1e-6 where its host has no better error function than Abramowitz and
// Stegun's 7.1.26; this is within 2e-7 on every host. Phi(-y) is erfc(a) / 2 with a = y / sqrt(2); with t = 1
// / (1 + a / 2), erfc(a) is t exp(P(t) - a^2), where P is a minimax fit of log(exp(a^2) erfc(a) / t) over t
// in [1/8, 1] (error 6e-8).
HWY_INLINE VF gelu(VF x) {
  const F f;
  const VF one = hn::Set(f, 1.0f);
  const VF a = hn::Mul(hn::Abs(x), hn::Set(f, 0.70710678f));
  const VF t = hn::Div(one, hn::MulAdd(a, hn::Set(f, 0.5f), one));
  VF p = hn::Set(f, 0.160992049f);
  for (const float coefficient : {-0.768008257f, 1.36102353f, -0.966673526f, 0.141803529f, -0.11563362f,
                                  0.0738811674f, 0.378552406f, 0.999554973f, -1.26549219f}) {
    p = hn::MulAdd(p, t, hn::Set(f, coefficient));
  }
  const VF exponent = hn::Max(hn::NegMulAdd(a, a, p), hn::Set(f, -88.0f));
  const VF tail = hn::Mul(hn::Mul(t, hn::Set(f, 0.5f)), hn::Exp(f, exponent));
  return hn::Mul(x, hn::IfThenElse(hn::Gt(x, hn::Zero(f)), hn::Sub(one, tail), tail));
}

template <class T>
HWY_INLINE void scale_row(const T* x, float scale, const T* weight, bool one_plus, std::size_t n, T* out) {
  const VF factor = hn::Set(F(), scale);
  if (one_plus) {
    const VF one = hn::Set(F(), 1.0f);
    const Pair ones{one, one};
    return for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
      store(load(x + i, part) * factor * (ones + load(weight + i, part)), out + i, part);
    });
  }
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    store(round_to(load(x + i, part) * factor, x) * load(weight + i, part), out + i, part);
  });
}

template <class T>
void rms_norm_row(const T* x, const T* weight, float eps, bool one_plus, std::size_t n, T* out) {
  Pair squares = zero();
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    const Pair v = load(x + i, part);
    squares = multiply_add(v, v, squares);
  });
  scale_row(x, 1.0f / std::sqrt(sum(squares) / static_cast<float>(n) + eps), weight, one_plus, n, out);
}

template <class T>
void add_rms_norm_row(T* residual, const T* delta, const T* weight, float eps, bool one_plus, std::size_t n,
                      T* out) {
  Pair squares = zero();
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    const Pair v = round_to(load(residual + i, part) + load(delta + i, part), residual);
    store(v, residual + i, part);
    squares = multiply_add(v, v, squares);
  });
  scale_row<T>(residual, 1.0f / std::sqrt(sum(squares) / static_cast<float>(n) + eps), weight, one_plus, n,
               out);
}

template <class T>
void layer_norm_row(const T* x, const T* weight, const T* bias, float eps, std::size_t n, T* out) {
  Pair total = zero();
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR { total = total + load(x + i, part); });
  const float mean = sum(total) / static_cast<float>(n);
  const VF shift = hn::Set(F(), -mean);
  const Pair shifts{shift, shift};
  Pair squares = zero();
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    const Pair v = present(load(x + i, part) + shifts, x, part);
    squares = multiply_add(v, v, squares);
  });
  const float variance = sum(squares) / static_cast<float>(n);
  const VF factor = hn::Set(F(), 1.0f / std::sqrt(variance + eps));
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    const Pair v = (load(x + i, part) + shifts) * factor;
    store(multiply_add(v, load(weight + i, part), load(bias + i, part)), out + i, part);
  });
}

template <class T>
void silu_mul_row(const T* gate_values, const T* up, std::size_t n, T* out) {
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    const Pair v = load(gate_values + i, part);
    store(round_to(Pair{silu(v.a), silu(v.b)}, up) * load(up + i, part), out + i, part);
  });
}

template <class T>
void gated_row(Gate kind, const T* x, const T* gate_values, std::size_t n, T* out) {
  if (kind == Gate::kSilu) {
    return for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
      const Pair v = load(gate_values + i, part);
      store(Pair{silu(v.a), silu(v.b)} * load(x + i, part), out + i, part);
    });
  }
  const VF one = hn::Set(F(), 1.0f);
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    const Pair v = load(gate_values + i, part);
    store(round_to(Pair{gate(one, v.a), gate(one, v.b)}, x) * load(x + i, part), out + i, part);
  });
}

template <class T>
void conv_silu_row(const void* const* taps, const T* weight, std::size_t width, std::size_t n, T* out) {
  for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
    Pair sum = zero();
    for (std::size_t tap = 0; tap < width; ++tap) {
      sum = multiply_add(load(static_cast<const T*>(taps[tap]) + i, part), load(weight + tap * n + i, part),
                         sum);
    }
    const Pair v = round_to(sum, weight);
    store(Pair{silu(v.a), silu(v.b)}, out + i, part);
  });
}

template <class T>
void activate_row(Activation activation, const T* x, std::size_t n, T* out) {
  const auto map = [&](auto function) HWY_ATTR {
    for_steps(n, [&](std::size_t i, auto part) HWY_ATTR {
      const Pair v = load(x + i, part);
      store(Pair{function(v.a), function(v.b)}, out + i, part);
    });
  };
  switch (activation) {
    case Activation::kQuickGelu:
      return map([](VF v) HWY_ATTR { return quick_gelu(v); });
    case Activation::kGeluTanh:
      return map([](VF v) HWY_ATTR { return gelu_tanh(v); });
    case Activation::kSilu:
      return map([](VF v) HWY_ATTR { return silu(v); });
    case Activation::kGelu:
      return map([](VF v) HWY_ATTR { return gelu(v); });
  }
}

// One vector of each half of a head.
template <class T>
HWY_INLINE void rotate(T* lower, T* upper, const float* cos, const float* sin, std::size_t half) {
  const F f;
  const VF x = load_natural(f, lower), y = load_natural(f, upper);
  const VF first = hn::NegMulAdd(y, hn::LoadU(f, sin), hn::Mul(x, hn::LoadU(f, cos)));
  const VF second = hn::MulAdd(x, hn::LoadU(f, sin + half), hn::Mul(y, hn::LoadU(f, cos + half)));
  store_natural(first, lower);
  store_natural(second, upper);
}

template <class T>
void rope_head(T* x, const float* cos, const float* sin, std::size_t half) {
  std::size_t i = 0;
  for (; i + kLanes <= half; i += kLanes) rotate(x + i, x + half + i, cos + i, sin + i, half);
  if (i == half) return;
  // The rest of both halves through buffers.
  const std::size_t rest = half - i;
  T lower[kLanes] = {}, upper[kLanes] = {};
  float cosines[2 * kLanes] = {}, sines[2 * kLanes] = {};
  std::copy(x + i, x + half, lower);
  std::copy(x + half + i, x + 2 * half, upper);
  for (const std::size_t part : {std::size_t{0}, std::size_t{1}}) {
    std::copy(cos + part * half + i, cos + part * half + half, cosines + part * kLanes);
    std::copy(sin + part * half + i, sin + part * half + half, sines + part * kLanes);
  }
  rotate(lower, upper, cosines, sines, kLanes);
  std::copy(lower, lower + rest, x + i);
  std::copy(upper, upper + rest, x + half + i);
}

template <class P>
P in(const void* p) {
  return static_cast<P>(const_cast<void*>(p));
}

void RmsNorm(Type type, const void* x, const void* weight, float eps, bool one_plus, std::size_t n,
             void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    rms_norm_row(in<P>(x), in<P>(weight), eps, one_plus, n, in<P>(out));
  });
}
void AddRmsNorm(Type type, void* residual, const void* delta, const void* weight, float eps, bool one_plus,
                std::size_t n, void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    add_rms_norm_row(in<P>(residual), in<P>(delta), in<P>(weight), eps, one_plus, n, in<P>(out));
  });
}
void LayerNorm(Type type, const void* x, const void* weight, const void* bias, float eps, std::size_t n,
               void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    layer_norm_row(in<P>(x), in<P>(weight), in<P>(bias), eps, n, in<P>(out));
  });
}
void SiluMul(Type type, const void* gate, const void* up, std::size_t n, void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    silu_mul_row(in<P>(gate), in<P>(up), n, in<P>(out));
  });
}
void Gated(Type type, Gate kind, const void* x, const void* gate_values, std::size_t n, void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    gated_row(kind, in<P>(x), in<P>(gate_values), n, in<P>(out));
  });
}
void ConvSilu(Type type, const void* const* taps, const void* weight, std::size_t width, std::size_t n,
              void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    conv_silu_row(taps, in<P>(weight), width, n, in<P>(out));
  });
}
void Activate(Type type, Activation activation, const void* x, std::size_t n, void* out) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    activate_row(activation, in<P>(x), n, in<P>(out));
  });
}
void Rope(Type type, void* x, std::size_t heads, std::size_t head_stride, const float* cos, const float* sin,
          std::size_t head_dim) {
  with_type(type, [&](auto t) {
    using P = decltype(t)*;
    for (std::size_t head = 0; head < heads; ++head)
      rope_head(in<P>(x) + head * head_stride, cos, sin, head_dim / 2);
  });
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(RmsNorm);
HWY_EXPORT(AddRmsNorm);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(SiluMul);
HWY_EXPORT(Activate);
HWY_EXPORT(Gated);
HWY_EXPORT(ConvSilu);
HWY_EXPORT(Rope);

void rms_norm(Type type, const void* x, const void* weight, float eps, bool one_plus, std::size_t n,
              void* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(type, x, weight, eps, one_plus, n, out);
}
void add_rms_norm(Type type, void* residual, const void* delta, const void* weight, float eps, bool one_plus,
                  std::size_t n, void* out) {
  HWY_DYNAMIC_DISPATCH(AddRmsNorm)(type, residual, delta, weight, eps, one_plus, n, out);
}
void layer_norm(Type type, const void* x, const void* weight, const void* bias, float eps, std::size_t n,
                void* out) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(type, x, weight, bias, eps, n, out);
}
void silu_mul(Type type, const void* gate, const void* up, std::size_t n, void* out) {
  HWY_DYNAMIC_DISPATCH(SiluMul)(type, gate, up, n, out);
}
void activate(Type type, Activation activation, const void* x, std::size_t n, void* out) {
  HWY_DYNAMIC_DISPATCH(Activate)(type, activation, x, n, out);
}
void gated(Type type, Gate kind, const void* x, const void* gate, std::size_t n, void* out) {
  HWY_DYNAMIC_DISPATCH(Gated)(type, kind, x, gate, n, out);
}
void conv_silu(Type type, const void* const* taps, const void* weight, std::size_t width, std::size_t n,
               void* out) {
  HWY_DYNAMIC_DISPATCH(ConvSilu)(type, taps, weight, width, n, out);
}
void rope(Type type, void* x, std::size_t heads, std::size_t head_stride, const float* cos, const float* sin,
          std::size_t head_dim) {
  HWY_DYNAMIC_DISPATCH(Rope)(type, x, heads, head_stride, cos, sin, head_dim);
}

}  // namespace tte::kernels::simd
#endif
