#pragma once

#include <cstdint>

namespace tte::kernels::simd {

// The types that tensors of the kernels have.
enum class Type : std::uint8_t { kFloat, kBFloat16, kHalf };

}  // namespace tte::kernels::simd
