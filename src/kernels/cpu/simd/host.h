// What the host's processor can do beyond the vectors that the kernels are compiled for.
#pragma once

#include <optional>

namespace tte::kernels::simd {

bool has_bfloat16_instructions();  // AVX512_BF16: products of pairs of bfloat16 values, added in float32.
bool has_bfloat16_tiles();         // AMX_BF16: the same of whole tiles.
bool has_byte_products();          // AVX512_VNNI: products of quads of bytes, added in 32 bits.
bool has_half_instructions();      // AVX512_FP16.

// Whether bfloat16 values are multiplied by AVX512_BF16, and not widened to float32 first. Intel's processors with
// AVX512_FP16 (Sapphire Rapids and later) have time for four products of vectors of float32 while they multiply one of
// pairs.
bool multiplies_pairs();
// For tests: as it says, where the processor can; nothing: as is faster.
void choose_pairs(std::optional<bool> pairs);

}  // namespace tte::kernels::simd
