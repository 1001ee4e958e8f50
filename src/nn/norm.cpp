#include "nn/norm.h"

#include "kernels/kernels.h"

namespace tte::nn {

RmsNorm::RmsNorm(const weights::StateDict& weights, const std::string& name, std::int64_t size,
                 const RmsNormOptions& options)
    : weight_(weights.get(name + ".weight", {size})), options_(options) {}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  return kernels::rms_norm(x, weight_, options_.eps, options_.scale);
}

at::Tensor RmsNorm::add(at::Tensor& residual, const at::Tensor& delta) const {
  return kernels::add_rms_norm(residual, delta, weight_, options_.eps, options_.scale);
}

LayerNorm::LayerNorm(const weights::StateDict& weights, const std::string& name, std::int64_t size,
                     double eps)
    : weight_(weights.get(name + ".weight", {size})), bias_(weights.get(name + ".bias", {size})), eps_(eps) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return kernels::layer_norm(x, weight_, bias_, eps_);
}

}  // namespace tte::nn
