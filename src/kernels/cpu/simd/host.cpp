#include "kernels/cpu/simd/host.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

namespace tte::kernels::simd {

#if HWY_ARCH_X86
namespace {

// Highway knows whether the operating system saves the 64-byte registers; the rest is the processor's own
// word.
bool has_long_vectors() {
  return (hwy::SupportedTargets() & HWY_AVX3) != 0;
}

}  // namespace

bool has_bfloat16_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_long_vectors() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
         (a >> 5 & 1) != 0;  // AVX512_BF16.
}

bool has_half_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_long_vectors() && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (d >> 23 & 1) != 0;  // AVX512_FP16.
}
#else
bool has_bfloat16_instructions() {
  return false;
}
bool has_half_instructions() {
  return false;
}
#endif

}  // namespace tte::kernels::simd
