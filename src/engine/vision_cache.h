// Vision features by tower and content, so that reasoner and embedder encode a visual once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "base/digest.h"

namespace tte::engine {

// Bounded in bytes: the least recently used features are dropped first. Thread-safe.
class VisionCache {
 public:
  explicit VisionCache(std::int64_t capacity_bytes);
  ~VisionCache();
  [[nodiscard]] std::optional<at::Tensor> find(const base::Digest& tower, const base::Digest& visual);
  void insert(const base::Digest& tower, const base::Digest& visual, const at::Tensor& features);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tte::engine
