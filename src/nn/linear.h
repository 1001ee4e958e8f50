// Matrix products of a checkpoint.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/weight.h"
#include "weights/state_dict.h"

namespace tte::nn {

// The tensors `names` of shapes [out_i, in], stacked along their outputs, in the format that linear layers keep.
kernels::Weight load_weight(const weights::StateDict& weights, const std::vector<std::string>& names,
                            const std::vector<std::vector<std::int64_t>>& shapes);

// A matrix [out, in] that was taken out of `weights`, in that format.
kernels::Weight as_weight(const weights::StateDict& weights, const at::Tensor& matrix);

// Whether load_weight() makes something else of the tensor `name` [out, in] than the checkpoint has.
bool is_packed(const weights::StateDict& weights, const std::string& name, std::int64_t out, std::int64_t in);

// x [rows, in] -> [rows, out]. The bias exists if the checkpoint has one.
class Linear {
 public:
  // Reads `name`.weight [out, in] and, where present, `name`.bias [out].
  Linear(const weights::StateDict& weights, const std::string& name, std::int64_t in, std::int64_t out);
  // `weight` [out, in] and an optional bias [out], already taken out of the checkpoint.
  explicit Linear(kernels::Weight weight, std::optional<at::Tensor> bias = std::nullopt);

  // Several linears that read the same input, stacked along their outputs: one pass over x instead of
  // several. Throws ModelError when some of them have a bias and others do not.
  static Linear stacked(const weights::StateDict& weights, const std::vector<std::string>& names,
                        std::int64_t in, const std::vector<std::int64_t>& outs);

  // The part that computes outputs begin .. begin + count, sharing the weights.
  [[nodiscard]] Linear outputs(std::int64_t begin, std::int64_t count) const;

  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  // The same, then kernels::activate, or kernels::silu_mul.
  [[nodiscard]] at::Tensor activated(const at::Tensor& x, kernels::Activation activation) const;
  [[nodiscard]] at::Tensor silu_mul(const at::Tensor& x) const;
  [[nodiscard]] const kernels::Weight& weight() const { return weight_; }

 private:
  kernels::Weight weight_;
  std::optional<at::Tensor> bias_;
};

}  // namespace tte::nn
