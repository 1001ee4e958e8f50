// Where what is checked runs: a GPU, or the CUDA kernels on the processor (kernels/cuda_shim).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#ifdef TTE_CUDA_SHIM
#include "kernels/cuda_shim/table.h"
#else
#include "kernels/cuda_driver.h"
#endif

namespace tte::testing {

#ifdef TTE_CUDA_SHIM
inline constexpr bool kIsShim = true;
inline at::Device cuda_device() {
  return at::kCPU;
}
// Those that layers may be split over beside it.
inline std::vector<at::Device> further_devices() {
  return {at::kCPU};
}
// Models that are loaded and run from now on are the CPU's, or those of the CUDA kernels.
inline void use_cuda(bool cuda) {
  kernels::cuda_shim::use_cuda_kernels(cuda);
}
#else
inline constexpr bool kIsShim = false;
inline at::Device cuda_device() {
  return {at::kCUDA, 0};
}
inline std::vector<at::Device> further_devices() {
  if (kernels::driver_gpus()->size() < 2) return {};
  return {{at::kCUDA, 1}};
}
inline void use_cuda(bool /*cuda*/) {}  // A tensor's device says which.
#endif

}  // namespace tte::testing
