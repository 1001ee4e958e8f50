// Keeps one copy of identical tensors, whatever checkpoint they come from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/digest.h"

namespace tte::weights {

// Thread-safe. Holds weak references: a tensor's memory lives as long as a model uses it (or any view of it).
// What the store has seen must never be written to again: it may be shared.
class WeightStore {
 public:
  WeightStore();
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  // Returns a live tensor with the same dtype, shape, device and bytes if there is one, else `tensor` itself,
  // which is then known to the store. Bytes are looked at only when another live tensor has the same dtype,
  // shape and device: then a few samples of both, and all of them only if the samples are equal. Loading a
  // model whose layers have equal shapes thus reads some hundred bytes of each tensor. A tensor that is
  // empty, undefined or not contiguous comes back as it is.
  at::Tensor share(const at::Tensor& tensor);

  // The same for a tensor that `place` makes of a known origin (a range of a file, with its dtype and
  // device). When a live tensor of the same origin is known, it is returned and `place` is not called.
  at::Tensor share(const base::Digest& origin, const std::function<at::Tensor()>& place);

  // A number for a list of tensors: equal for two lists only if they are the same memory (as identical
  // tensors that went through share() are), while any of it lives. Never given again for other memory.
  std::uint64_t identity(const std::vector<at::Tensor>& tensors);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tte::weights
