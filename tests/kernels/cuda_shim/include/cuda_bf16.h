// Stands in for the CUDA toolkit's header of this name.
#pragma once

#include <c10/util/BFloat16.h>
#include <cuda_runtime_api.h>

using __nv_bfloat16 = c10::BFloat16;
inline float __bfloat162float(__nv_bfloat16 x) {
  return x;
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return x;
}
