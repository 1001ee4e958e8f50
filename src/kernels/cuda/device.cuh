// What the kernels share: the types of values, in and out of float32, vector loads, sums over the threads of a row.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/rows.h"

namespace tte::kernels::cuda {

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ float widen(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float widen(__half x) {
  return __half2float(x);
}

template <typename T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half narrow<__half>(float x) {
  return __float2half_rn(x);
}

// Can 16 bytes be read from here at a time?
inline bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

// V values that are loaded and stored by one instruction.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T values[V];
};

template <int V, typename T>
__device__ __forceinline__ Pack<T, V> load(const T* p) {
  return *reinterpret_cast<const Pack<T, V>*>(p);
}
template <int V, typename T>
__device__ __forceinline__ void store(T* p, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(p) = pack;
}

// Calls f with p as a pointer to values of the type.
template <typename Body>
void with_values(Type type, void* p, const Body& f) {
  switch (type) {
    case Type::kFloat:
      return f(static_cast<float*>(p));
    case Type::kBFloat16:
      return f(static_cast<__nv_bfloat16*>(p));
    case Type::kHalf:
      return f(static_cast<__half*>(p));
  }
}

template <typename T>
__device__ __forceinline__ T* row_at(const Rows& rows, std::int64_t row) {
  return static_cast<T*>(rows.data) + row / rows.inner * rows.outer_stride +
         row % rows.inner * rows.inner_stride;
}

// The sum over the threadIdx.x of a row. All threads of a block call it; blocks with several rows have warps as rows.
__device__ __forceinline__ float row_sum(float value) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
  if (blockDim.x <= 32) return value;
  __shared__ float parts[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? parts[lane] : 0.0f;
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
  __syncthreads();  // parts may be written again.
  return value;
}

}  // namespace tte::kernels::cuda
