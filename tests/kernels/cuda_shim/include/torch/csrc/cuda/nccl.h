// Stands in for torch's header of this name: all devices are the processor.
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace torch::cuda::nccl {

inline void broadcast(at::TensorList tensors) {
  for (std::size_t i = 1; i < tensors.size(); ++i) tensors[i].copy_(tensors[0]);
}

// As NCCL, which rounds the sum of two.
inline void reduce(const std::vector<at::Tensor>& inputs, at::Tensor& output) {
  output.copy_(inputs[0]);
  for (std::size_t i = 1; i < inputs.size(); ++i) output.add_(inputs[i]);
}

}  // namespace torch::cuda::nccl
