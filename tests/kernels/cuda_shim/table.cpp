// Puts the CUDA kernels where dispatch.cpp looks for those of the processor.
#include "kernels/table.h"

extern "C" const tte::kernels::KernelTable* tte_cuda_kernel_table(int version);

namespace tte::kernels {

const KernelTable& cpu_kernels() {
  return *tte_cuda_kernel_table(kCudaTableVersion);
}
const KernelTable* loaded_cuda_kernels() {
  return nullptr;
}
void load_cuda() {}
bool cuda_available() {
  return false;
}

}  // namespace tte::kernels
