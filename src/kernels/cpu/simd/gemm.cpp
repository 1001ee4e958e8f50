#include "kernels/cpu/simd/gemm.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/gemm.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/dot-inl.h"
#include "kernels/cpu/simd/host.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

// Steps of k whose part of a group of x stays in the first-level cache while rows of the weight pass by.
template <class X>
constexpr std::size_t kBlock = (sizeof(X) == 2 ? 2048 : 1024) / kStep;

template <class X, class T>
void gemm_typed(const Gemm& g, std::size_t row_begin, std::size_t row_end, std::size_t begin, std::size_t end,
                float* HWY_RESTRICT c) {
  const auto* weight = static_cast<const T*>(g.weight);
  const auto stride = static_cast<std::size_t>(g.weight_stride), k = static_cast<std::size_t>(g.k);
  const std::size_t columns = end - begin, steps = steps_of(k);
  for (std::size_t block = 0; block == 0 || block < steps; block += kBlock<X>) {
    const std::size_t from = block * kStep, count = std::min(k - from, kBlock<X> * kStep);
    for (std::size_t row = row_begin; row < row_end; row += kGroup) {
      const std::size_t rows = std::min(kGroup, row_end - row);
      const X* x = static_cast<const X*>(g.x) + row * steps * kStep + block * rows * kStep;
      // The first group brings the block of the weight in from memory.
      const auto function =
          row == row_begin ? group_function<true, X, T>(rows) : group_function<false, X, T>(rows);
      function(x, weight + begin * stride + from, stride, count, block == 0, columns,
               c + (row - row_begin) * columns, columns);
    }
  }
  const T* bias = g.bias != nullptr ? static_cast<const T*>(g.bias) + begin : nullptr;
  for (std::size_t row = row_begin; row < row_end; ++row) {
    const std::size_t at = row * static_cast<std::size_t>(g.out_stride) + begin;
    const float* sums = c + (row - row_begin) * columns;
    finish_row(sums, bias, columns, g.out_type, g.out, at);
  }
}

template <class X, class T>
void pack_typed(const void* values, std::size_t x_stride, std::size_t rows, std::size_t k, std::size_t begin,
                std::size_t end, void* out) {
  const auto* x = static_cast<const T*>(values);
  auto* packed = static_cast<X*>(out);
  const std::size_t width = steps_of(k) * kStep;
  for (std::size_t row = begin; row < end; ++row) {
    const std::size_t first = row / kGroup * kGroup;
    pack_row(x + row * x_stride, k, row - first, std::min(kGroup, rows - first), packed + first * width);
  }
}

// What x of this type is packed as: bfloat16 where its pairs are multiplied, else float32.
template <class Body>
void with_types(Type type, const Body& body) {
  switch (type) {
    case Type::kFloat:
      return body(float{}, float{});
    case Type::kBFloat16:
#if TTE_KERNELS_PAIRS
      if (multiplies_pairs()) return body(BFloat16{}, BFloat16{});
#endif
      return body(float{}, BFloat16{});
    case Type::kHalf:
      return body(float{}, Half{});
  }
}

void Compute(const Gemm& g, std::size_t row_begin, std::size_t row_end, std::size_t begin, std::size_t end,
             float* scratch) {
  with_types(g.type, [&](auto x, auto weight) {
    gemm_typed<decltype(x), decltype(weight)>(g, row_begin, row_end, begin, end, scratch);
  });
}

void Pack(Type type, const void* x, std::size_t x_stride, std::size_t rows, std::size_t k, std::size_t begin,
          std::size_t end, void* packed) {
  with_types(type, [&](auto to, auto from) {
    pack_typed<decltype(to), decltype(from)>(x, x_stride, rows, k, begin, end, packed);
  });
}

std::size_t PackedBytes(Type type, std::int64_t rows, std::int64_t k) {
  std::size_t size = 0;
  with_types(type, [&](auto to, auto) { size = sizeof(to); });
  return static_cast<std::size_t>(rows) * steps_of(static_cast<std::size_t>(k)) * kStep * size;
}
std::int64_t PackGroup() {
  return kGroup;
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(Compute);
HWY_EXPORT(Pack);
HWY_EXPORT(PackedBytes);
HWY_EXPORT(PackGroup);

std::size_t packed_bytes(Type type, std::int64_t rows, std::int64_t k) {
  return HWY_DYNAMIC_DISPATCH(PackedBytes)(type, rows, k);
}
std::int64_t pack_group() {
  return HWY_DYNAMIC_DISPATCH(PackGroup)();
}

void pack_rows(Type type, const void* x, std::int64_t x_stride, std::int64_t rows, std::int64_t k,
               std::int64_t begin, std::int64_t end, void* packed) {
  HWY_DYNAMIC_DISPATCH(Pack)
  (type, x, static_cast<std::size_t>(x_stride), static_cast<std::size_t>(rows), static_cast<std::size_t>(k),
   static_cast<std::size_t>(begin), static_cast<std::size_t>(end), packed);
}

void gemm(const Gemm& gemm, std::int64_t row_begin, std::int64_t row_end, std::int64_t begin,
          std::int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Compute)
  (gemm, static_cast<std::size_t>(row_begin), static_cast<std::size_t>(row_end),
   static_cast<std::size_t>(begin), static_cast<std::size_t>(end), scratch);
}

}  // namespace tte::kernels::simd
#endif
