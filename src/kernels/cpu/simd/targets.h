// Which instruction sets the kernels are compiled for. Fewer than Highway offers: each costs compile time and
// size, and the ones left out bring these kernels nothing over the next lower one. Sizeless vectors (SVE,
// RVV) cannot be kept in arrays of accumulators.
#pragma once

#include <hwy/detect_targets.h>

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
