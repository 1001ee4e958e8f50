#include "nn/decoder_layer.h"

#include <ATen/ATen.h>

#include <utility>

namespace tte::nn {

DecoderLayer::DecoderLayer(const weights::StateDict& weights, std::unique_ptr<const Mixer> mixer,
                           std::unique_ptr<const FeedForward> mlp, std::int64_t hidden,
                           const RmsNormOptions& norm)
    : input_norm_(weights, "input_layernorm", hidden, norm),
      mlp_norm_(weights, "post_attention_layernorm", hidden, norm),
      mixer_(std::move(mixer)),
      mlp_(std::move(mlp)) {}

at::Tensor DecoderLayer::normed_input(at::Tensor& residual, const at::Tensor& delta) const {
  return delta.defined() ? input_norm_.add(residual, delta) : input_norm_(residual);
}

at::Tensor DecoderLayer::operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step) const {
  const at::Tensor mixed = mixer_->mix(normed_input(residual, delta), step);
  return (*mlp_)(mlp_norm_.add(residual, mixed));
}

at::Tensor DecoderLayer::operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step,
                                    const Selection& selection) const {
  const at::Tensor mixed = mixer_->mix_selected(normed_input(residual, delta), step, selection);
  residual = residual.index_select(0, selection.rows);
  return residual.size(0) == 0 ? residual : (*mlp_)(mlp_norm_.add(residual, mixed));
}

}  // namespace tte::nn
