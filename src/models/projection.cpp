#include "models/projection.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <vector>

#include "base/file.h"
#include "base/printable.h"
#include "tte/error.h"
#include "weights/state_dict.h"

namespace tte::models {
namespace {

at::Tensor activate(const at::Tensor& x, ProjectionActivation activation) {
  switch (activation) {
    case ProjectionActivation::kTanh:
      return at::tanh(x);
    case ProjectionActivation::kRelu:
      return at::relu(x);
    case ProjectionActivation::kGelu:
      return at::gelu(x);
    case ProjectionActivation::kSigmoid:
      return at::sigmoid(x);
    case ProjectionActivation::kSilu:
      return at::silu(x);
    case ProjectionActivation::kIdentity:
      break;
  }
  return x;
}

// A copy: tensors as stored are views of the file.
at::Tensor matrix(const weights::StateDict& weights, std::int64_t inputs) {
  const std::vector<std::int64_t> shape = weights.shape("weight");
  return weights.get("weight", {shape.empty() ? 0 : shape.front(), inputs}).clone();
}

}  // namespace

Projection::Projection(const base::Checkpoint& checkpoint, const ProjectionOptions& options,
                       std::int64_t inputs)
    : activation_(options.activation), residual_(options.residual) {
  weights::Placement placement;
  placement.dtype = at::kFloat;
  const auto all = weights::StateDict::open(
      options.file.empty() ? checkpoint : base::Checkpoint(checkpoint / options.file), placement);
  const weights::StateDict weights = all.select(options.tensors);
  weight_ = matrix(weights, inputs);
  if (const auto bias = weights.find("bias", {outputs()})) bias_ = bias->clone();
  weights.check_all_used();
  fingerprint_ = all.fingerprint();
  if (!options.residual_tensors.empty())
    residual_weight_ = matrix(all.select(options.residual_tensors), inputs);
  const std::int64_t added = residual_weight_.defined() ? residual_weight_.size(0) : inputs;
  if (residual_ && added != outputs()) {
    throw ModelError(fmt::format(
        "The projection \"{}\" of {} makes {} values, and its residual has {}: they must be as many.",
        base::printable(options.tensors, 80), base::shown(checkpoint.folder()), outputs(), added));
  }
}

at::Tensor Projection::operator()(const at::Tensor& states) const {
  const auto times = [&](const at::Tensor& matrix) { return at::matmul(states, matrix.t()); };
  const at::Tensor product = times(weight_);
  at::Tensor out = activate(bias_.defined() ? product + bias_ : product, activation_);
  if (!residual_) return out;
  return out + (residual_weight_.defined() ? times(residual_weight_) : states);
}

}  // namespace tte::models
