// What the host's processor can do beyond the vectors that the kernels are compiled for.
#pragma once

namespace tte::kernels::simd {

bool has_bfloat16_instructions();  // AVX512_BF16: products of pairs of bfloat16 values, added in float32.
bool has_bfloat16_tiles();         // AMX_BF16: the same of whole tiles.
bool has_byte_products();          // AVX512_VNNI: products of quads of bytes, added in 32 bits.
bool has_half_instructions();      // AVX512_FP16.

}  // namespace tte::kernels::simd
