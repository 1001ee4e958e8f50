// Feed-forward layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "kernels/kernels.h"
#include "nn/linear.h"
#include "weights/state_dict.h"

namespace tte::nn {

// What a decoder layer does with each row by itself: x [rows, hidden] -> [rows, hidden].
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  [[nodiscard]] virtual at::Tensor operator()(const at::Tensor& x) const = 0;
};

// down_proj(silu(gate_proj(x)) * up_proj(x)), gate and up in one product.
class GatedMlp final : public FeedForward {
 public:
  GatedMlp(const weights::StateDict& weights, std::int64_t hidden, std::int64_t intermediate);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const override;

 private:
  Linear gate_up_, down_;
};

// second(activation(first(x))).
class Mlp {
 public:
  Mlp(const weights::StateDict& weights, const std::string& first, const std::string& second, std::int64_t in,
      std::int64_t intermediate, std::int64_t out, kernels::Activation activation);
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x) const;

 private:
  Linear first_, second_;
  kernels::Activation activation_;
};

}  // namespace tte::nn
