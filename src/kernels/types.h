// The types that tensors of the kernels have. No torch in here, so that nvcc and the files of simd/ see none.
#pragma once

#include <cstdint>

namespace tte::kernels {

enum class Type : std::uint8_t { kFloat, kBFloat16, kHalf };

}  // namespace tte::kernels
