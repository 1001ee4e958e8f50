// Stands in for the CUDA toolkit's header of this name.
#pragma once

#include <c10/util/Half.h>
#include <cuda_runtime_api.h>

using __half = c10::Half;
inline float __half2float(__half x) {
  return x;
}
inline __half __float2half_rn(float x) {
  return x;
}
