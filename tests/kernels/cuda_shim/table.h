// Which kernels tensors of the processor go to.
#pragma once

namespace tte::kernels::cuda_shim {

// The CUDA kernels, which is how a program begins, or the processor's own.
void use_cuda_kernels(bool cuda);

}  // namespace tte::kernels::cuda_shim
