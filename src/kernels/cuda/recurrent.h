// The CUDA kernels of layers with a recurrent state. No torch in here, so that nvcc sees none.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/rows.h"

namespace tte::kernels::cuda {

// Rows cu_seqlens[i] .. cu_seqlens[i + 1] belong to slots[i]. On the device.
struct Sequences {
  std::int64_t count = 0;
  const std::int32_t* cu_seqlens = nullptr;
  const std::int32_t* slots = nullptr;
};

struct Convolution {
  std::int64_t channels = 0;
  std::int64_t width = 0;
  std::int64_t row_stride = 0;  // From one row of x to the next.
};
// As kernels::causal_conv_silu: columns [slots, width - 1, channels], out dense.
void conv_silu(Type type, const Sequences& sequences, const Convolution& conv, const void* x,
               const void* weight, void* columns, void* out, cudaStream_t stream);

// As kernels::gated_delta_rule, once q and k are normalised: all dense.
struct DeltaRule {
  std::int64_t heads = 0;
  std::int64_t key_heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;
  const float* q = nullptr;      // [rows, key_heads, key_dim]
  const float* k = nullptr;      // [rows, key_heads, key_dim]
  const float* v = nullptr;      // [rows, heads, value_dim]
  const float* decay = nullptr;  // [rows, heads]
  const float* beta = nullptr;   // [rows, heads]
  float* memory = nullptr;       // [slots, heads, key_dim, value_dim]
  float* out = nullptr;          // [rows, heads, value_dim]
};
void delta_rule(const Sequences& sequences, const DeltaRule& rule, cudaStream_t stream);

}  // namespace tte::kernels::cuda
