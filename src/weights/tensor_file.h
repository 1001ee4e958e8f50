// One safetensors file: its tensors, and what they hold.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/digest.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"

namespace tte::weights {

// A range of a mapped file as a tensor: a view, or a copy where the bytes do not lie as their type wants them. The
// tensor keeps the mapping alive, and must not be written to. Throws ModelError when the file has changed.
at::Tensor map_tensor(const std::shared_ptr<const MappedFile>& file, std::size_t begin, at::IntArrayRef shape,
                      at::ScalarType dtype);

class TensorFile {
 public:
  TensorFile(std::shared_ptr<const MappedFile> file, std::vector<StoredTensor> tensors);

  [[nodiscard]] const std::shared_ptr<const MappedFile>& file() const { return file_; }
  [[nodiscard]] const std::vector<StoredTensor>& tensors() const { return tensors_; }
  // Over all bytes of a tensor. Those of the whole file are made when the first is asked for: see content_digests().
  [[nodiscard]] const base::Digest& digest(std::size_t index) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::vector<StoredTensor> tensors_;
  mutable std::once_flag once_;
  mutable std::vector<base::Digest> digests_;
};

}  // namespace tte::weights
