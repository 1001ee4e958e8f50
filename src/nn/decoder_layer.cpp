#include "nn/decoder_layer.h"

#include <ATen/ATen.h>

namespace tte::nn {

DecoderLayer::DecoderLayer(const weights::StateDict& weights, const AttentionShape& shape,
                           std::int64_t intermediate, double eps)
    : input_norm_(weights, "input_layernorm", shape.hidden, eps),
      attention_norm_(weights, "post_attention_layernorm", shape.hidden, eps),
      attention_(weights.select("self_attn."), shape),
      mlp_(weights.select("mlp."), shape.hidden, intermediate) {}

at::Tensor DecoderLayer::normed_input(at::Tensor& residual, const at::Tensor& delta) const {
  return delta.defined() ? input_norm_.add(residual, delta) : input_norm_(residual);
}

at::Tensor DecoderLayer::operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step,
                                    kernels::PagedCache& cache) const {
  const at::Tensor attended = attention_(normed_input(residual, delta), step, cache);
  return mlp_(attention_norm_.add(residual, attended));
}

at::Tensor DecoderLayer::operator()(at::Tensor& residual, const at::Tensor& delta, const Step& step,
                                    const Selection& selection, kernels::PagedCache& cache) const {
  const at::Tensor x = normed_input(residual, delta);
  attention_.store(x, step, cache);
  residual = residual.index_select(0, selection.rows);
  if (residual.size(0) == 0) return residual;
  const at::Tensor attended = attention_.read(x.index_select(0, selection.rows), selection.step, cache);
  return mlp_(attention_norm_.add(residual, attended));
}

}  // namespace tte::nn
