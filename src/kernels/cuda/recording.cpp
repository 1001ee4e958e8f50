// CUDA graphs, recorded by torch.
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/cuda/cuda_kernels.h"

namespace tte::kernels::cuda {
namespace {

class GraphRecording final : public Recording {
 public:
  GraphRecording(at::Device device, const std::function<void()>& work, GraphRecording* sharing)
      // Not the stream that the work is for, which may be the default one: that cannot be recorded. One for all that
      // share memory, since cuBLAS takes some for every stream.
      : stream_(sharing != nullptr ? sharing->stream_
                                   : c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        device_(device) {
    const c10::cuda::CUDAStreamGuard guard(stream_);
    // Other threads may use the device meanwhile, and wait for it.
    graph_.capture_begin(sharing != nullptr ? sharing->graph_.pool() : at::cuda::graph_pool_handle(),
                         cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      try {
        graph_.capture_end();            // Or the stream would go on recording.
      } catch (const std::exception&) {  // What was thrown first says why.
      }
      throw;
    }
    graph_.capture_end();
  }

  void replay() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.replay();
  }

 private:
  c10::cuda::CUDAStream stream_;
  at::Device device_;
  at::cuda::CUDAGraph graph_;
};

}  // namespace

std::unique_ptr<Recording> record(at::Device device, const std::function<void()>& work, Recording* sharing) {
  return std::make_unique<GraphRecording>(device, work, static_cast<GraphRecording*>(sharing));
}

}  // namespace tte::kernels::cuda
