#include "kernels/cpu/cpu_kernels.h"

namespace tte::kernels {

const KernelTable& cpu_kernels() {
  return cpu::kTable;
}

}  // namespace tte::kernels
