// Puts the CUDA kernels where dispatch.cpp looks for those of the processor.
#include "kernels/cuda_shim/table.h"

#include <ATen/Parallel.h>

#include "kernels/cpu/cpu_kernels.h"

extern "C" const tte::kernels::KernelTable* tte_cuda_kernel_table(int version);

namespace tte::kernels {
namespace {

bool cuda_chosen = true;

}  // namespace

void cuda_shim::use_cuda_kernels(bool cuda) {
  cuda_chosen = cuda;
}

const KernelTable& cpu_kernels() {
  return cuda_chosen ? *tte_cuda_kernel_table(kCudaTableVersion) : cpu::kTable;
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
