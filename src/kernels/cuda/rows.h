// The CUDA kernels of our own, as functions that launch them on a stream. No torch in here, so that nvcc sees none.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/types.h"

namespace tte::kernels::cuda {

enum class Function : std::uint8_t { kQuickGelu, kGelu, kGeluTanh, kSilu };

// Rows of n values: row r begins r / inner * outer_stride + r % inner * inner_stride elements after data.
struct Rows {
  void* data = nullptr;
  std::int64_t count = 0;
  std::int64_t inner = 1;
  std::int64_t inner_stride = 0;
  std::int64_t outer_stride = 0;
};

void rms_norm(Type type, Rows x, const void* weight, float eps, bool one_plus, std::int64_t n, void* out,
              cudaStream_t stream);
void add_rms_norm(Type type, Rows residual, Rows delta, const void* weight, float eps, bool one_plus,
                  std::int64_t n, void* out, cudaStream_t stream);
void layer_norm(Type type, Rows x, const void* weight, const void* bias, float eps, std::int64_t n, void* out,
                cudaStream_t stream);
// gate_up has rows of 2 n values.
void silu_mul(Type type, Rows gate_up, std::int64_t n, void* out, cudaStream_t stream);
void activate(Type type, Function function, const void* x, std::int64_t count, void* out,
              cudaStream_t stream);
// x times the sigmoid (rounded first) or the silu of gate.
void gated(Type type, bool silu, Rows x, Rows gate, std::int64_t n, void* out, cudaStream_t stream);
// x: head h of row r at r * row_stride + h * head_stride; cos and sin dense [rows, head_dim].
void rope(Type type, void* x, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
          std::int64_t row_stride, std::int64_t head_stride, const float* cos, const float* sin,
          cudaStream_t stream);
// Copies head h of row r of k and v to (slots[r] * heads + h) * head_dim of the caches.
struct Heads {
  const void* data = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t head_stride = 0;
};
void store_kv(Type type, Heads k, Heads v, const std::int64_t* slots, std::int64_t rows, std::int64_t heads,
              std::int64_t head_dim, void* key_cache, void* value_cache, cudaStream_t stream);

// The compute capability of a device, times ten: 80, 90, ...
int compute_capability(int device);

}  // namespace tte::kernels::cuda
