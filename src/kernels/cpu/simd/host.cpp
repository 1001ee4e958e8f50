#include "kernels/cpu/simd/host.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <atomic>
#include <cstdint>

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

namespace tte::kernels::simd {

#if HWY_ARCH_X86
namespace {

// Bits of the processor's answers about its instruction sets, asked once: in a virtual machine that takes long.
struct Features {
  bool bfloat16 = false, bfloat16_tiles = false, byte_products = false, half = false, intel = false;
  Features() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    // Highway knows whether the operating system saves the 64-byte registers.
    if ((hwy::SupportedTargets() & HWY_AVX3) == 0) return;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) bfloat16 = (a >> 5 & 1) != 0;  // AVX512_BF16.
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
      byte_products = (c >> 11 & 1) != 0;   // AVX512_VNNI.
      bfloat16_tiles = (d >> 22 & 1) != 0;  // AMX_BF16.
      half = (d >> 23 & 1) != 0;            // AVX512_FP16.
    }
    intel = __get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_INTEL_ebx && c == signature_INTEL_ecx;
  }
};

const Features& features() {
  static const Features kFeatures;
  return kFeatures;
}

bool has_slow_pairs() {
  return features().intel && features().half;
}

}  // namespace

bool has_bfloat16_instructions() {
  return features().bfloat16;
}
bool has_bfloat16_tiles() {
  return features().bfloat16_tiles;
}
bool has_byte_products() {
  return features().byte_products;
}
bool has_half_instructions() {
  return features().half;
}
#else
namespace {

bool has_slow_pairs() {
  return false;
}

}  // namespace

bool has_bfloat16_instructions() {
  return false;
}
bool has_bfloat16_tiles() {
  return false;
}
bool has_byte_products() {
  return false;
}
bool has_half_instructions() {
  return false;
}
#endif

namespace {

enum class Pairs : std::uint8_t { kAsIsFaster, kMultiplied, kWidened };
std::atomic<Pairs> chosen_pairs{Pairs::kAsIsFaster};

}  // namespace

bool multiplies_pairs() {
  const Pairs chosen = chosen_pairs.load(std::memory_order_relaxed);
  if (chosen != Pairs::kAsIsFaster) return chosen == Pairs::kMultiplied && has_bfloat16_instructions();
  return has_bfloat16_instructions() && !has_slow_pairs();
}

void choose_pairs(std::optional<bool> pairs) {
  chosen_pairs = !pairs ? Pairs::kAsIsFaster : *pairs ? Pairs::kMultiplied : Pairs::kWidened;
}

}  // namespace tte::kernels::simd
