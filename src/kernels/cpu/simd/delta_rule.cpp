#include "kernels/cpu/simd/delta_rule.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/delta_rule.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

constexpr std::size_t kVectors = kDeltaColumns / kLanes;

// One row of the memory's columns.
struct Columns {
  VF at[kVectors];
};

HWY_INLINE Columns zeros() {
  Columns out;
  for (VF& vector : out.at) vector = hn::Zero(F());
  return out;
}
HWY_INLINE Columns load(const float* p) {
  Columns out;
  for (std::size_t i = 0; i < kVectors; ++i) out.at[i] = hn::LoadU(F(), p + i * kLanes);
  return out;
}
HWY_INLINE void store(const Columns& x, float* p) {
  for (std::size_t i = 0; i < kVectors; ++i) hn::StoreU(x.at[i], F(), p + i * kLanes);
}
// acc + x * factor
HWY_INLINE void add_product(Columns& acc, const Columns& x, VF factor) {
  for (std::size_t i = 0; i < kVectors; ++i) acc.at[i] = hn::MulAdd(x.at[i], factor, acc.at[i]);
}

// Where fewer columns than kDeltaColumns are there, the others are zeros.
HWY_INLINE Columns load_some(const float* p, std::size_t count) {
  if (count == kDeltaColumns) return load(p);
  float buffer[kDeltaColumns] = {};
  std::copy_n(p, count, buffer);
  return load(buffer);
}
HWY_INLINE void store_some(const Columns& x, std::size_t count, float* p) {
  if (count == kDeltaColumns) return store(x, p);
  float buffer[kDeltaColumns];
  store(x, buffer);
  std::copy_n(buffer, count, p);
}

// What the memory holds at a key.
HWY_INLINE Columns recall(const float* memory, const float* key, std::size_t key_dim) {
  Columns even = zeros(), odd = zeros();  // Two sums, that no addition waits for the one before it.
  std::size_t i = 0;
  for (; i + 2 <= key_dim; i += 2) {
    add_product(even, load(memory + i * kDeltaColumns), hn::Set(F(), key[i]));
    add_product(odd, load(memory + (i + 1) * kDeltaColumns), hn::Set(F(), key[i + 1]));
  }
  if (i < key_dim) add_product(even, load(memory + i * kDeltaColumns), hn::Set(F(), key[i]));
  for (std::size_t u = 0; u < kVectors; ++u) even.at[u] = hn::Add(even.at[u], odd.at[u]);
  return even;
}

void DeltaRuleOf(const DeltaRule& rule, float* scratch) {
  const F f;
  for (std::size_t i = 0; i < rule.key_dim; ++i)
    store(load_some(rule.memory + i * rule.memory_stride, rule.columns), scratch + i * kDeltaColumns);
  for (std::size_t t = 0; t < rule.rows; ++t) {
    const float *q = rule.q + t * rule.qk_stride, *k = rule.k + t * rule.qk_stride;
    const VF decay = hn::Set(f, rule.decay[t * rule.gate_stride]);
    const VF beta = hn::Set(f, rule.beta[t * rule.gate_stride]);
    // What is new in the value: that much of it the decayed memory does not hold yet.
    Columns change = recall(scratch, k, rule.key_dim);
    const Columns value = load_some(rule.v + t * rule.value_stride, rule.columns);
    for (std::size_t u = 0; u < kVectors; ++u)
      change.at[u] = hn::Mul(hn::NegMulAdd(change.at[u], decay, value.at[u]), beta);
    Columns out = zeros();
    for (std::size_t i = 0; i < rule.key_dim; ++i) {
      float* row = scratch + i * kDeltaColumns;
      Columns held = load(row);
      for (VF& vector : held.at) vector = hn::Mul(vector, decay);
      add_product(held, change, hn::Set(f, k[i]));
      store(held, row);
      add_product(out, held, hn::Set(f, q[i]));
    }
    store_some(out, rule.columns, rule.out + t * rule.value_stride);
  }
  for (std::size_t i = 0; i < rule.key_dim; ++i)
    store_some(load(scratch + i * kDeltaColumns), rule.columns, rule.memory + i * rule.memory_stride);
}

void L2Normalize(const float* x, float eps, float scale, std::size_t n, float* out) {
  const F f;
  VF squares = hn::Zero(f);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF v = hn::LoadU(f, x + i);
    squares = hn::MulAdd(v, v, squares);
  }
  float sum = hn::GetLane(hn::SumOfLanes(f, squares));
  for (; i < n; ++i) sum += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(sum + eps);
  for (i = 0; i < n; ++i) out[i] = x[i] * factor * scale;
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(DeltaRuleOf);
HWY_EXPORT(L2Normalize);

void delta_rule(const DeltaRule& rule, float* scratch) {
  HWY_DYNAMIC_DISPATCH(DeltaRuleOf)(rule, scratch);
}
void l2_normalize(const float* x, float eps, float scale, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(L2Normalize)(x, eps, scale, n, out);
}

}  // namespace tte::kernels::simd
#endif
