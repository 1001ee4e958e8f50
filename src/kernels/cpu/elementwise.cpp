#include <ATen/ATen.h>

#include "kernels/cpu/cpu_kernels.h"

namespace tte::kernels::cpu {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor normalised = wide * at::rsqrt(wide.square().mean(-1, true) + eps);
  return normalised.to(x.scalar_type()) * weight;
}

at::Tensor add_rms_norm(at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps) {
  residual.add_(delta);
  return rms_norm(residual, weight, eps);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu: {
      const at::Tensor wide = x.to(at::kFloat);
      return (wide * at::sigmoid(wide * 1.702)).to(x.scalar_type());
    }
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kSilu:
      return at::silu(x);
  }
  TORCH_CHECK(false, "activate: unknown activation ", static_cast<int>(activation));
}

void rope(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const at::Tensor wide = x.to(at::kFloat);
  const auto halves = wide.chunk(2, -1);
  const at::Tensor rotated = at::cat({-halves[1], halves[0]}, -1);
  x.copy_(wide * cos.unsqueeze(1) + rotated * sin.unsqueeze(1));
}

}  // namespace tte::kernels::cpu
