// Keeps one copy of identical tensors, whatever checkpoint they come from.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string_view>

namespace tte::weights {

// Thread-safe. Holds weak references: a tensor lives as long as a model uses it.
class WeightStore {
 public:
  WeightStore();
  ~WeightStore();
  // Returns a live tensor with the same dtype, shape, device and bytes if there is one, else `tensor` itself, which
  // is then known to the store. Bytes are hashed only when another live tensor has the same dtype and shape, so
  // loading a single model costs nothing.
  at::Tensor share(const at::Tensor& tensor);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tte::weights
