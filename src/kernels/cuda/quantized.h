// The CUDA kernels of weights of few bits. No torch in here, so that nvcc sees none.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/types.h"

namespace tte::kernels::cuda {

// Inputs that a thread takes at a time: an output has a multiple of them, and so has a row of x.
inline constexpr std::int64_t kInputsAtOnce = 8;

// Outputs of a weight, each a record of its codes, scales and factors (base/rounded_matrix.h), which begins at a
// multiple of 16 bytes.
struct Outputs {
  const void* records = nullptr;
  std::int64_t count = 0;
  std::int64_t inputs = 0;        // Filled up to a multiple of kInputsAtOnce, less than 2^31.
  std::int64_t record_bytes = 0;  // From one record to the next.
  std::int64_t scales = 0;  // Where they begin in a record: a multiple of 4, as is where the factors do.
  std::int64_t factors = 0;
  bool four_bits = false;
};

// Rows of as many values as a weight has inputs, the first and `stride` (in values) at multiples of 16 bytes.
struct FewRows {
  const void* data = nullptr;
  std::int64_t count = 0;
  std::int64_t stride = 0;
};
inline constexpr std::int64_t kMostFewRows = 8;

// out [rows, outputs], dense, of x's type or float32: x times the weight, plus a bias of x's type if there is one. All
// codes are read once.
void multiply_few(Type type, const Outputs& weight, const FewRows& x, const void* bias, bool float_out,
                  void* out, cudaStream_t stream);

// out [outputs, inputs], dense, at a multiple of 16 bytes: the numbers that the codes stand for, rounded to the type.
void dequantize(Type type, const Outputs& weight, void* out, cudaStream_t stream);

}  // namespace tte::kernels::cuda
