#include "kernels/cuda/cuda_kernels.h"

extern "C" __attribute__((visibility("default"))) const tte::kernels::KernelTable* tte_cuda_kernel_table(
    int version) {
  return version == tte::kernels::kCudaTableVersion ? &tte::kernels::cuda::kTable : nullptr;
}
