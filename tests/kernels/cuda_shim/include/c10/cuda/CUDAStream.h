// Stands in for torch's header of this name: kernels run at once.
#pragma once

#include <c10/core/Device.h>
#include <cuda_runtime_api.h>

namespace c10::cuda {

struct CUDAStream {
  [[nodiscard]] cudaStream_t stream() const { return nullptr; }
};
inline CUDAStream getCurrentCUDAStream() {
  return {};
}
inline CUDAStream getStreamFromPool(bool /*high_priority*/, DeviceIndex) {
  return {};
}

}  // namespace c10::cuda
