// Weights of a few bits, made of plain ones. They run on a CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "base/linear_format.h"
#include "kernels/weight.h"

namespace tte::kernels {

// Matrices with fewer outputs or inputs stay plain: they are gates and small models' layers, whose time and memory do
// not count.
inline constexpr std::int64_t kLeastQuantized = 64;

// The matrix [outputs, inputs], float32, bfloat16 or float16 on the CPU, rounded to a format that is not kPlain: bytes
// that quantized_weight() takes. Threads share the work.
at::Tensor quantize(const at::Tensor& matrix, base::LinearFormat format);

// The weight whose bytes quantize() made; memory is shared. `dtype` is that of x and of results. Rows that it is
// multiplied with are rounded to 8 bits, with a scale for each 128 (kInt4: 32) values.
Weight quantized_weight(at::Tensor packed, base::LinearFormat format, std::int64_t outputs,
                        std::int64_t inputs, at::ScalarType dtype);

}  // namespace tte::kernels
