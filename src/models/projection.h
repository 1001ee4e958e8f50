// Linear layers behind the pooling, through which hidden states become the vectors of systems that were trained so.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "base/checkpoint.h"
#include "base/digest.h"

namespace tte::models {

enum class ProjectionActivation : std::uint8_t { kIdentity, kTanh, kRelu, kGelu, kSigmoid, kSilu };

struct ProjectionOptions {
  std::string file;     // A safetensors file in the checkpoint's folder; empty: the checkpoint's own tensors.
  std::string tensors;  // What the names of its tensors begin with.
  ProjectionActivation activation = ProjectionActivation::kIdentity;
  // What goes in is added to what comes out; where names are given, it is multiplied with their "weight" first.
  bool residual = false;
  std::string residual_tensors;
};

// activation(W x + b), perhaps with a residual, in float32 on the CPU: a vector at a time is little work. const and
// thread-safe; copies share the tensors.
class Projection {
 public:
  // Reads "weight" [outputs, inputs] and, where there is one, "bias" [outputs]. Throws ModelError naming file and
  // tensor for what is missing or does not take `inputs` values.
  Projection(const base::Checkpoint& checkpoint, const ProjectionOptions& options, std::int64_t inputs);

  [[nodiscard]] std::int64_t outputs() const { return weight_.size(0); }
  // The digest of its tensors: their names, shapes and bytes.
  [[nodiscard]] const base::Digest& fingerprint() const { return fingerprint_; }
  // float32 [..., inputs] -> [..., outputs], on the CPU.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& states) const;

 private:
  base::Digest fingerprint_;
  ProjectionActivation activation_;
  bool residual_;
  at::Tensor weight_;
  at::Tensor bias_;             // Undefined where there is none.
  at::Tensor residual_weight_;  // Likewise: the vector itself is added.
};

}  // namespace tte::models
