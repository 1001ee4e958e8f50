// What GPUs that share a layer send each other: NCCL, as torch has it for one thread that drives several devices.
//
// What NCCL does on a device is one kernel on its current stream: behind what made the tensor there, and before what
// reads the result, with the others' kernels as the only thing that it waits for. They are started as one group. Every
// tensor is used on the stream of its own device alone, so that torch may give its memory to what comes next there.
#include <ATen/ATen.h>
#include <torch/csrc/cuda/nccl.h>

#include <mutex>

#include "kernels/cuda/cuda_kernels.h"

namespace tte::kernels::cuda {
namespace {

// torch finds the communicator of some devices in a map without a lock, and each replica has a thread.
std::mutex communicators;

}  // namespace

std::vector<at::Tensor> broadcast(const at::Tensor& x, const std::vector<at::Device>& devices) {
  std::vector<at::Tensor> out = {x.contiguous()};
  for (std::size_t i = 1; i < devices.size(); ++i)
    out.push_back(at::empty(x.sizes(), x.options().device(devices[i])));
  if (x.numel() == 0) return out;
  const std::lock_guard lock(communicators);
  torch::cuda::nccl::broadcast(out);
  return out;
}

at::Tensor reduce_sum(const std::vector<at::Tensor>& parts) {
  std::vector<at::Tensor> dense;
  for (const at::Tensor& part : parts) dense.push_back(part.contiguous());
  at::Tensor sum = at::empty_like(dense.front());
  if (sum.numel() == 0) return sum;
  const std::lock_guard lock(communicators);
  torch::cuda::nccl::reduce(dense, sum);
  return sum;
}

}  // namespace tte::kernels::cuda
