#include "kernels/cuda/rows.h"

#include <type_traits>

#include "kernels/cuda/device.cuh"

namespace tte::kernels::cuda {
namespace {

// n values, a row per threadIdx.y, V at a time: body(i) for the values i .. i + V - 1 of this thread.
template <int V, typename Body>
__device__ __forceinline__ void for_values(std::int64_t n, const Body& body) {
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * V; i < n;
       i += static_cast<std::int64_t>(blockDim.x) * V) {
    body(i);
  }
}

__device__ __forceinline__ std::int64_t this_row() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

// The normalised value is rounded to T before it is multiplied by the weight, not before one plus the weight.
template <int V, typename T>
__device__ __forceinline__ void scale_row(const T* x, const T* weight, bool one_plus, float factor,
                                          std::int64_t n, T* out) {
  for_values<V>(n, [&](std::int64_t i) {
    const Pack<T, V> values = load<V>(x + i), weights = load<V>(weight + i);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float normalised = widen(values.values[j]) * factor, w = widen(weights.values[j]);
      result.values[j] = narrow<T>(one_plus ? normalised * (1.0f + w) : widen(narrow<T>(normalised)) * w);
    }
    store(out + i, result);
  });
}

template <typename T, int V>
__global__ void rms_norm_kernel(Rows rows, const T* weight, float eps, bool one_plus, std::int64_t n,
                                T* out) {
  const std::int64_t row = this_row();
  if (row >= rows.count) return;  // Whole warps only: see row_sum().
  const T* x = row_at<T>(rows, row);
  float squares = 0.0f;
  for_values<V>(n, [&](std::int64_t i) {
    const Pack<T, V> values = load<V>(x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float v = widen(values.values[j]);
      squares += v * v;
    }
  });
  scale_row<V>(x, weight, one_plus, rsqrtf(row_sum(squares) / static_cast<float>(n) + eps), n, out + row * n);
}

template <typename T, int V>
__global__ void add_rms_norm_kernel(Rows rows, Rows deltas, const T* weight, float eps, bool one_plus,
                                    std::int64_t n, T* out) {
  const std::int64_t row = this_row();
  if (row >= rows.count) return;
  T* residual = row_at<T>(rows, row);
  const T* delta = row_at<T>(deltas, row);
  float squares = 0.0f;
  for_values<V>(n, [&](std::int64_t i) {
    Pack<T, V> values = load<V>(residual + i);
    const Pack<T, V> added = load<V>(delta + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      values.values[j] = narrow<T>(widen(values.values[j]) + widen(added.values[j]));
      const float v = widen(values.values[j]);
      squares += v * v;
    }
    store(residual + i, values);
  });
  // Each thread reads back what it wrote itself.
  scale_row<V>(residual, weight, one_plus, rsqrtf(row_sum(squares) / static_cast<float>(n) + eps), n,
               out + row * n);
}

template <typename T, int V>
__global__ void layer_norm_kernel(Rows rows, const T* weight, const T* bias, float eps, std::int64_t n,
                                  T* out) {
  const std::int64_t row = this_row();
  if (row >= rows.count) return;
  const T* x = row_at<T>(rows, row);
  float total = 0.0f;
  for_values<V>(n, [&](std::int64_t i) {
    const Pack<T, V> values = load<V>(x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) total += widen(values.values[j]);
  });
  const float mean = row_sum(total) / static_cast<float>(n);
  float squares = 0.0f;
  for_values<V>(n, [&](std::int64_t i) {
    const Pack<T, V> values = load<V>(x + i);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float v = widen(values.values[j]) - mean;
      squares += v * v;
    }
  });
  const float factor = rsqrtf(row_sum(squares) / static_cast<float>(n) + eps);
  for_values<V>(n, [&](std::int64_t i) {
    const Pack<T, V> values = load<V>(x + i), weights = load<V>(weight + i), biases = load<V>(bias + i);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float v = (widen(values.values[j]) - mean) * factor;
      result.values[j] = narrow<T>(v * widen(weights.values[j]) + widen(biases.values[j]));
    }
    store(out + row * n + i, result);
  });
}

__device__ __forceinline__ float silu(float x) {
  return x / (1.0f + expf(-x));
}

template <typename T, int V>
__global__ void silu_mul_kernel(Rows rows, std::int64_t n, T* out) {
  const std::int64_t row = this_row();
  if (row >= rows.count) return;
  const T* gate = row_at<T>(rows, row);
  for_values<V>(n, [&](std::int64_t i) {
    const Pack<T, V> gates = load<V>(gate + i), ups = load<V>(gate + n + i);
    Pack<T, V> result;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float activated = widen(narrow<T>(silu(widen(gates.values[j]))));
      result.values[j] = narrow<T>(activated * widen(ups.values[j]));
    }
    store(out + row * n + i, result);
  });
}

// Threads and blocks for rows of n values, V at a time. Depends on the rows' number only through the grid:
// the order of additions within a row is the same for any batch.
struct Grid {
  dim3 blocks, threads;
};
Grid grid_of(std::int64_t rows, std::int64_t n, int v) {
  const std::int64_t packs = (n + v - 1) / v;
  if (packs <= 64) return {dim3(static_cast<unsigned>((rows + 7) / 8)), dim3(32, 8)};
  unsigned threads = 64;
  while (threads < 512 && threads * 2 <= packs) threads *= 2;
  return {dim3(static_cast<unsigned>(rows)), dim3(threads)};
}

// Can rows of n values, n and their strides, be read 16 bytes at a time?
template <typename T>
bool wide_rows(const Rows& rows, std::int64_t n) {
  constexpr std::int64_t kV = 16 / sizeof(T);
  return aligned(rows.data) && n % kV == 0 && rows.inner_stride % kV == 0 && rows.outer_stride % kV == 0;
}

}  // namespace

void rms_norm(Type type, Rows x, const void* weight, float eps, bool one_plus, std::int64_t n, void* out,
              cudaStream_t stream) {
  if (x.count == 0 || n == 0) return;
  with_values(type, out, [&](auto* result) {
    using T = std::remove_pointer_t<decltype(result)>;
    constexpr int kV = 16 / sizeof(T);
    if (wide_rows<T>(x, n) && aligned(weight) && aligned(out)) {
      const Grid grid = grid_of(x.count, n, kV);
      rms_norm_kernel<T, kV><<<grid.blocks, grid.threads, 0, stream>>>(x, static_cast<const T*>(weight), eps,
                                                                       one_plus, n, result);
    } else {
      const Grid grid = grid_of(x.count, n, 1);
      rms_norm_kernel<T, 1><<<grid.blocks, grid.threads, 0, stream>>>(x, static_cast<const T*>(weight), eps,
                                                                      one_plus, n, result);
    }
  });
}

void add_rms_norm(Type type, Rows residual, Rows delta, const void* weight, float eps, bool one_plus,
                  std::int64_t n, void* out, cudaStream_t stream) {
  if (residual.count == 0 || n == 0) return;
  with_values(type, out, [&](auto* result) {
    using T = std::remove_pointer_t<decltype(result)>;
    constexpr int kV = 16 / sizeof(T);
    if (wide_rows<T>(residual, n) && wide_rows<T>(delta, n) && aligned(weight) && aligned(out)) {
      const Grid grid = grid_of(residual.count, n, kV);
      add_rms_norm_kernel<T, kV><<<grid.blocks, grid.threads, 0, stream>>>(
          residual, delta, static_cast<const T*>(weight), eps, one_plus, n, result);
    } else {
      const Grid grid = grid_of(residual.count, n, 1);
      add_rms_norm_kernel<T, 1><<<grid.blocks, grid.threads, 0, stream>>>(
          residual, delta, static_cast<const T*>(weight), eps, one_plus, n, result);
    }
  });
}

void layer_norm(Type type, Rows x, const void* weight, const void* bias, float eps, std::int64_t n, void* out,
                cudaStream_t stream) {
  if (x.count == 0 || n == 0) return;
  with_values(type, out, [&](auto* result) {
    using T = std::remove_pointer_t<decltype(result)>;
    constexpr int kV = 16 / sizeof(T);
    if (wide_rows<T>(x, n) && aligned(weight) && aligned(bias) && aligned(out)) {
      const Grid grid = grid_of(x.count, n, kV);
      layer_norm_kernel<T, kV><<<grid.blocks, grid.threads, 0, stream>>>(
          x, static_cast<const T*>(weight), static_cast<const T*>(bias), eps, n, result);
    } else {
      const Grid grid = grid_of(x.count, n, 1);
      layer_norm_kernel<T, 1><<<grid.blocks, grid.threads, 0, stream>>>(
          x, static_cast<const T*>(weight), static_cast<const T*>(bias), eps, n, result);
    }
  });
}

void silu_mul(Type type, Rows gate_up, std::int64_t n, void* out, cudaStream_t stream) {
  if (gate_up.count == 0 || n == 0) return;
  with_values(type, out, [&](auto* result) {
    using T = std::remove_pointer_t<decltype(result)>;
    constexpr int kV = 16 / sizeof(T);
    if (wide_rows<T>(gate_up, n) && aligned(out)) {
      const Grid grid = grid_of(gate_up.count, n, kV);
      silu_mul_kernel<T, kV><<<grid.blocks, grid.threads, 0, stream>>>(gate_up, n, result);
    } else {
      const Grid grid = grid_of(gate_up.count, n, 1);
      silu_mul_kernel<T, 1><<<grid.blocks, grid.threads, 0, stream>>>(gate_up, n, result);
    }
  });
}

}  // namespace tte::kernels::cuda
