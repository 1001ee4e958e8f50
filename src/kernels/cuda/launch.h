// What surrounds the launch of a kernel.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace tte::kernels::cuda {

// The stream that tensors of x's device are used on. Alive while kernels are launched: it selects the device.
class Launch {
 public:
  explicit Launch(const at::Tensor& x) : guard_(x.device()) {}
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
  [[nodiscard]] cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream().stream(); }
  // Call after the kernel: says what was wrong with the launch.
  void check() const { C10_CUDA_CHECK(cudaGetLastError()); }

 private:
  c10::cuda::CUDAGuard guard_;
};

}  // namespace tte::kernels::cuda
