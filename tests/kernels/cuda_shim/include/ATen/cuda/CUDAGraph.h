// Stands in for torch's header of this name: what is recorded is a list of operators and launches, see tape.h.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/cuda_shim/tape.h"

namespace at::cuda {

struct Pool {};  // Of memory: there is no other.
inline Pool graph_pool_handle() {
  return {};
}

class CUDAGraph {
 public:
  void capture_begin(Pool, cudaStreamCaptureMode) {
    tape_ = std::make_unique<tte::kernels::cuda_shim::Tape>();
  }
  void capture_end() { tape_->end(); }
  void replay() { tape_->replay(); }
  [[nodiscard]] Pool pool() const { return {}; }

 private:
  std::unique_ptr<tte::kernels::cuda_shim::Tape> tape_;
};

}  // namespace at::cuda
