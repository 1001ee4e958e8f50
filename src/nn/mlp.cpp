#include "nn/mlp.h"

namespace tte::nn {

GatedMlp::GatedMlp(const weights::StateDict& weights, std::int64_t hidden, std::int64_t intermediate)
    : gate_up_(Linear::stacked(weights, {"gate_proj", "up_proj"}, hidden, {intermediate, intermediate})),
      down_(weights, "down_proj", intermediate, hidden) {}

at::Tensor GatedMlp::operator()(const at::Tensor& x) const {
  return down_(gate_up_.silu_mul(x));
}

Mlp::Mlp(const weights::StateDict& weights, const std::string& first, const std::string& second,
         std::int64_t in, std::int64_t intermediate, std::int64_t out, kernels::Activation activation)
    : first_(weights, first, in, intermediate),
      second_(weights, second, intermediate, out),
      activation_(activation) {}

at::Tensor Mlp::operator()(const at::Tensor& x) const {
  return second_(first_.activated(x, activation_));
}

}  // namespace tte::nn
