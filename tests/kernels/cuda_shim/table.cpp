// Puts the CUDA kernels where dispatch.cpp looks for those of the processor.
#include <ATen/Parallel.h>

#include "kernels/table.h"

extern "C" const tte::kernels::KernelTable* tte_cuda_kernel_table(int version);

namespace tte::kernels {

const KernelTable& cpu_kernels() {
  return *tte_cuda_kernel_table(kCudaTableVersion);
}
const KernelTable* loaded_cuda_kernels() {
  return nullptr;
}
// The references need no threads, which only wait for each other on a busy machine.
void load_cuda() {
  at::set_num_threads(1);
}
bool cuda_available() {
  return false;
}

}  // namespace tte::kernels
