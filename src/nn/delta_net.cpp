#include "nn/delta_net.h"

#include <ATen/ATen.h>

namespace tte::nn {
namespace {

// [channels, 1, width] -> [width, channels]
at::Tensor conv_weight(const weights::StateDict& weights, const DeltaNetShape& shape) {
  const at::Tensor weight = weights.get("conv1d.weight", {shape.channels(), 1, shape.conv_width});
  return weight.squeeze(1).t().contiguous();
}

}  // namespace

// The stacked products have the order that the files have: then they are views of them.
GatedDeltaNet::GatedDeltaNet(const weights::StateDict& weights, const DeltaNetShape& shape,
                             std::int64_t cache)
    : shape_(shape),
      cache_(static_cast<std::size_t>(cache)),
      gates_(Linear::stacked(weights, {"in_proj_a", "in_proj_b"}, shape.hidden,
                             {shape.value_heads, shape.value_heads})),
      in_(Linear::stacked(weights, {"in_proj_qkv", "in_proj_z"}, shape.hidden,
                          {shape.channels(), shape.value_heads * shape.value_dim})),
      conv_(conv_weight(weights, shape)),
      rate_(weights.get("A_log", {shape.value_heads}).to(at::kFloat).exp().neg()),
      dt_bias_(weights.get("dt_bias", {shape.value_heads}).to(at::kFloat)),
      norm_(weights, "norm", shape.value_dim, {.eps = shape.eps}),
      out_(weights, "out_proj", shape.value_heads * shape.value_dim, shape.hidden) {}

at::Tensor GatedDeltaNet::mix(const at::Tensor& x, const Step& step) const {
  const at::Tensor gates = gates_(x), in = in_(x);
  const std::int64_t rows = x.size(0), values = shape_.value_heads * shape_.value_dim;
  const std::int64_t keys = shape_.key_heads * shape_.key_dim;
  const at::Tensor z =
      in.narrow(1, shape_.channels(), values).view({rows, shape_.value_heads, shape_.value_dim});
  kernels::RecurrentCache& cache = step.recurrent[cache_];
  const at::Tensor qkv = kernels::causal_conv_silu(in.narrow(1, 0, shape_.channels()), conv_, cache.columns,
                                                   step.batch.cu_seqlens, step.slots);
  const auto heads = [&](std::int64_t first, std::int64_t count, std::int64_t size) {
    return qkv.narrow(1, first, count * size).view({rows, count, size});
  };
  const kernels::DeltaInputs inputs{
      .q = heads(0, shape_.key_heads, shape_.key_dim),
      .k = heads(keys, shape_.key_heads, shape_.key_dim),
      .v = heads(2 * keys, shape_.value_heads, shape_.value_dim),
      .a = gates.narrow(1, 0, shape_.value_heads),
      .b = gates.narrow(1, shape_.value_heads, shape_.value_heads),
      .rate = rate_,
      .dt_bias = dt_bias_,
  };
  const at::Tensor read = kernels::gated_delta_rule(inputs, cache.memory, step.batch.cu_seqlens, step.slots);
  const at::Tensor normed = norm_(read.view({rows, shape_.value_heads, shape_.value_dim}));
  return out_(kernels::gated(normed, z, kernels::Gate::kSilu).view({rows, values}));
}

at::Tensor GatedDeltaNet::mix_selected(const at::Tensor& x, const Step& step,
                                       const Selection& selection) const {
  return mix(x, step).index_select(0, selection.rows);
}

}  // namespace tte::nn
