// Weights in formats of a device's own, made of plain ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "base/linear_format.h"
#include "base/rounded_matrix.h"
#include "kernels/weight.h"

namespace tte::kernels {

// Whether pack() makes something else of a matrix [outputs, inputs] than it is: of kInt8 and kInt4, where both sizes
// are at least 64 (smaller ones are gates and toys, whose time and memory do not count); of kPanels, where it is also
// bfloat16, of an even number of inputs, and the processor multiplies pairs of them (AVX512_BF16) but not tiles (AMX).
bool is_packed(base::LinearFormat format, std::int64_t outputs, std::int64_t inputs, at::ScalarType dtype);

// The matrix, float32, bfloat16 or float16, in a format, for a device: bytes there that packed_weight() takes. Only the
// CPU has panels. Threads share the work.
at::Tensor pack(const at::Tensor& matrix, base::LinearFormat format, at::Device device = at::kCPU);

// The matrix, on the CPU, rounded as pack() does it, of kInt8 and kInt4.
base::RoundedMatrix round(const at::Tensor& matrix, base::LinearFormat format);
// What pack() makes of the matrix that was rounded, or of several [outputs_i, inputs] that stand one below the other.
at::Tensor pack(const std::vector<base::RoundedMatrix>& parts, std::int64_t inputs, base::LinearFormat format,
                at::Device device = at::kCPU);

// The weight whose bytes pack() made; memory is shared. `dtype` is that of x and of results. On the CPU, rows that a
// weight of few bits is multiplied with are rounded to 8 bits, with a scale for each 128 values; on CUDA they stay as
// they are.
Weight packed_weight(at::Tensor packed, base::LinearFormat format, std::int64_t outputs, std::int64_t inputs,
                     at::ScalarType dtype);

}  // namespace tte::kernels
