// What the host's processor can do beyond the vectors that the kernels are compiled for.
#pragma once

namespace tte::kernels::simd {

// Instructions that multiply bfloat16 (or float16) values and add in float32, which oneDNN uses.
bool has_bfloat16_instructions();
bool has_half_instructions();

}  // namespace tte::kernels::simd
