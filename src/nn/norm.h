// Normalisations of a checkpoint, over the last dimension.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "kernels/kernels.h"
#include "weights/state_dict.h"

namespace tte::nn {

struct RmsNormOptions {
  double eps = 1e-6;
  kernels::NormScale scale = kernels::NormScale::kWeight;
};

class RmsNorm {
 public:
  // Reads `name`.weight [size].
  RmsNorm(const weights::StateDict& weights, const std::string& name, std::int64_t size,
          const RmsNormOptions& options);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;
  // residual += delta in place, then the norm of the sum.
  [[nodiscard]] at::Tensor add(at::Tensor& residual, const at::Tensor& delta) const;

 private:
  at::Tensor weight_;
  RmsNormOptions options_;
};

class LayerNorm {
 public:
  // Reads `name`.weight and `name`.bias, both [size].
  LayerNorm(const weights::StateDict& weights, const std::string& name, std::int64_t size,
            double eps = 1e-5);  // torch.nn.LayerNorm's.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;

 private:
  at::Tensor weight_, bias_;
  double eps_;
};

}  // namespace tte::nn
