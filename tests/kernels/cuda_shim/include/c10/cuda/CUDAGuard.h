// Stands in for torch's header of this name: there is one device.
#pragma once

#include <c10/core/Device.h>

namespace c10::cuda {

class CUDAGuard {
 public:
  explicit CUDAGuard(Device) {}
};

}  // namespace c10::cuda
