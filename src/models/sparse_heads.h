// Linear heads over a vocabulary, each of which reads one token behind the pooled one: the sparse vector of systems
// that were trained so.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "weights/mapped_file.h"

namespace tte::models {

struct SparseHeadsOptions {
  std::string file;     // Written by torch.save, in the checkpoint's folder; empty: no sparse vector.
  std::string weights;  // The key of a list of matrices [dimensions, hidden], one for each head.
  std::string biases;   // The key of a list of as many vectors [dimensions]; empty: heads have none.
};

// log(1 + relu(W x + b)) of every head, one behind the other, on the CPU. const and thread-safe.
class SparseHeads {
 public:
  // Heads that read `inputs` values and compute in `dtype`, as many as `count`. Throws ModelError naming the file for
  // what is missing or does not fit. Tensors of another type are converted when the heads are first used.
  SparseHeads(const base::Checkpoint& checkpoint, const SparseHeadsOptions& options, std::int64_t count,
              std::int64_t inputs, at::ScalarType dtype);

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(weights_.size()); }
  [[nodiscard]] std::int64_t outputs() const { return outputs_; }  // All heads together.
  // float32 [count, inputs], row i for head i, to float32 [outputs]. Throws ModelError for a result that is not finite,
  // and for a file that was written to.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& rows) const;

 private:
  std::shared_ptr<const weights::MappedFile> file_;
  at::ScalarType dtype_;
  std::int64_t outputs_ = 0;
  mutable std::once_flag converted_;
  mutable std::vector<at::Tensor> weights_, biases_;  // biases_ is empty where heads have none.
};

}  // namespace tte::models
