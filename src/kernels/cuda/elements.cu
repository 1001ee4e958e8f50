#include <algorithm>
#include <type_traits>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rows.h"

namespace tte::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

// Blocks for `count` threads' worth of work; kernels stride over what exceeds the grid.
unsigned blocks_for(std::int64_t count) {
  return static_cast<unsigned>(std::min<std::int64_t>((count + kThreads - 1) / kThreads, 1 << 20));
}

__device__ __forceinline__ std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t index_stride() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

// x / (1 + exp(-z)).
__device__ __forceinline__ float gate(float x, float z) {
  return x / (1.0f + expf(-z));
}

template <Function F>
__device__ __forceinline__ float apply(float x) {
  if constexpr (F == Function::kQuickGelu) return gate(x, 1.702f * x);
  if constexpr (F == Function::kGelu) return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  // x / 2 * (1 + tanh(u)) is x / (1 + exp(-2 u)); 1.59577 is 2 sqrt(2 / pi).
  if constexpr (F == Function::kGeluTanh) return gate(x, 1.5957691216057308f * (x + 0.044715f * x * x * x));
  if constexpr (F == Function::kSilu) return gate(x, x);
}

template <Function F, typename T, int V>
__global__ void activate_kernel(const T* x, std::int64_t packs, T* out) {
  for (std::int64_t p = first_index(); p < packs; p += index_stride()) {
    Pack<T, V> values = load<V>(x + p * V);
#pragma unroll
    for (int j = 0; j < V; ++j) values.values[j] = narrow<T>(apply<F>(widen(values.values[j])));
    store(out + p * V, values);
  }
}

template <typename T>
__global__ void gated_kernel(bool silu, Rows x, Rows gates, std::int64_t n, T* out) {
  for (std::int64_t index = first_index(); index < x.count * n; index += index_stride()) {
    const std::int64_t row = index / n, i = index % n;
    const float z = widen(row_at<T>(gates, row)[i]);
    const float factor = silu ? gate(z, z) : widen(narrow<T>(gate(1.0f, z)));
    out[index] = narrow<T>(factor * widen(row_at<T>(x, row)[i]));
  }
}

template <typename T>
__global__ void rope_kernel(T* x, std::int64_t count, std::int64_t heads, std::int64_t half,
                            std::int64_t row_stride, std::int64_t head_stride, const float* cos,
                            const float* sin) {
  for (std::int64_t index = first_index(); index < count; index += index_stride()) {
    const std::int64_t i = index % half, head = index / half % heads, row = index / half / heads;
    T* lower = x + row * row_stride + head * head_stride + i;
    T* upper = lower + half;
    const float* c = cos + row * 2 * half + i;
    const float* s = sin + row * 2 * half + i;
    const float a = widen(*lower), b = widen(*upper);
    *lower = narrow<T>(a * c[0] - b * s[0]);
    *upper = narrow<T>(b * c[half] + a * s[half]);
  }
}

// One thread copies a Word of a key and the same one of a value; strides and head_dim are in Words.
template <typename Word>
__global__ void store_kv_kernel(Heads k, Heads v, const std::int64_t* slots, std::int64_t count,
                                std::int64_t heads, std::int64_t head_words, Word* key_cache,
                                Word* value_cache) {
  for (std::int64_t index = first_index(); index < count; index += index_stride()) {
    const std::int64_t i = index % head_words, head = index / head_words % heads,
                       row = index / head_words / heads;
    const std::int64_t target = (slots[row] * heads + head) * head_words + i;
    key_cache[target] = static_cast<const Word*>(k.data)[row * k.row_stride + head * k.head_stride + i];
    value_cache[target] = static_cast<const Word*>(v.data)[row * v.row_stride + head * v.head_stride + i];
  }
}

template <Function F>
void launch_activate(Type type, const void* x, std::int64_t count, void* out, cudaStream_t stream) {
  with_values(type, out, [&](auto* result) {
    using T = std::remove_pointer_t<decltype(result)>;
    constexpr int kV = 16 / sizeof(T);
    const auto* in = static_cast<const T*>(x);
    if (count % kV == 0 && aligned(x) && aligned(out)) {
      activate_kernel<F, T, kV><<<blocks_for(count / kV), kThreads, 0, stream>>>(in, count / kV, result);
    } else {
      activate_kernel<F, T, 1><<<blocks_for(count), kThreads, 0, stream>>>(in, count, result);
    }
  });
}

template <typename Word>
void launch_store_kv(std::int64_t element_size, Heads k, Heads v, const std::int64_t* slots,
                     std::int64_t rows, std::int64_t heads, std::int64_t head_dim, void* key_cache,
                     void* value_cache, cudaStream_t stream) {
  const std::int64_t ratio = static_cast<std::int64_t>(sizeof(Word)) / element_size;
  for (Heads* x : {&k, &v}) {
    x->row_stride /= ratio;
    x->head_stride /= ratio;
  }
  const std::int64_t words = head_dim / ratio, count = rows * heads * words;
  store_kv_kernel<Word><<<blocks_for(count), kThreads, 0, stream>>>(
      k, v, slots, count, heads, words, static_cast<Word*>(key_cache), static_cast<Word*>(value_cache));
}

}  // namespace

void activate(Type type, Function function, const void* x, std::int64_t count, void* out,
              cudaStream_t stream) {
  if (count == 0) return;
  switch (function) {
    case Function::kQuickGelu:
      return launch_activate<Function::kQuickGelu>(type, x, count, out, stream);
    case Function::kGelu:
      return launch_activate<Function::kGelu>(type, x, count, out, stream);
    case Function::kGeluTanh:
      return launch_activate<Function::kGeluTanh>(type, x, count, out, stream);
    case Function::kSilu:
      return launch_activate<Function::kSilu>(type, x, count, out, stream);
  }
}

void gated(Type type, bool silu, Rows x, Rows gates, std::int64_t n, void* out, cudaStream_t stream) {
  if (x.count * n == 0) return;
  with_values(type, out, [&](auto* values) {
    gated_kernel<<<blocks_for(x.count * n), kThreads, 0, stream>>>(silu, x, gates, n, values);
  });
}

void rope(Type type, void* x, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
          std::int64_t row_stride, std::int64_t head_stride, const float* cos, const float* sin,
          cudaStream_t stream) {
  const std::int64_t half = head_dim / 2, count = rows * heads * half;
  if (count == 0) return;
  with_values(type, x, [&](auto* values) {
    rope_kernel<<<blocks_for(count), kThreads, 0, stream>>>(values, count, heads, half, row_stride,
                                                            head_stride, cos, sin);
  });
}

void store_kv(Type type, Heads k, Heads v, const std::int64_t* slots, std::int64_t rows, std::int64_t heads,
              std::int64_t head_dim, void* key_cache, void* value_cache, cudaStream_t stream) {
  if (rows * heads * head_dim == 0) return;
  const std::int64_t size = type == Type::kFloat ? 4 : 2, wide = 16 / size;
  bool whole = head_dim % wide == 0 && aligned(key_cache) && aligned(value_cache);
  for (const Heads& x : {k, v}) {
    whole = whole && aligned(x.data) && x.row_stride % wide == 0 && x.head_stride % wide == 0;
  }
  if (whole) {
    launch_store_kv<uint4>(size, k, v, slots, rows, heads, head_dim, key_cache, value_cache, stream);
  } else if (size == 4) {
    launch_store_kv<std::uint32_t>(size, k, v, slots, rows, heads, head_dim, key_cache, value_cache, stream);
  } else {
    launch_store_kv<std::uint16_t>(size, k, v, slots, rows, heads, head_dim, key_cache, value_cache, stream);
  }
}

int compute_capability(int device) {
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    return 0;
  }
  return 10 * major + minor;
}

}  // namespace tte::kernels::cuda
