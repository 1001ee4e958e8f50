// Everything but attention: matrix products by cuBLAS, the rest by the kernels of rows.h.
#include <ATen/ATen.h>

#include <cmath>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/recurrent.h"

namespace tte::kernels::cuda {
namespace {

// Can the rows of x be described by one stride, or two?
bool has_plain_rows(const at::Tensor& x) {
  return x.dim() <= 3 && (x.stride(-1) == 1 || x.size(-1) <= 1);
}

Rows rows_of(const at::Tensor& x) {
  Rows rows;
  rows.data = const_cast<void*>(x.const_data_ptr());
  rows.count = x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
  if (x.dim() == 2) rows.outer_stride = x.stride(0);
  if (x.dim() == 3) {
    rows.inner = x.size(1);
    rows.inner_stride = x.stride(1);
    rows.outer_stride = x.stride(0);
  }
  rows.inner = std::max<std::int64_t>(1, rows.inner);
  return rows;
}

// x, or a copy of it, whose rows rows_of() can describe.
at::Tensor plain_rows(const at::Tensor& x) {
  return has_plain_rows(x) ? x : x.contiguous().flatten(0, -2);
}

at::Tensor empty_as(const at::Tensor& x) {
  return at::empty(x.sizes(), x.options());
}

// The rows of each sequence, on the device; keeps the tensors alive.
struct DeviceSequences {
  DeviceSequences(const std::vector<std::int32_t>& cu_seqlens, const std::vector<std::int64_t>& slots,
                  at::Device device)
      : ends(on_device(cu_seqlens, device)), slots(on_device({slots.begin(), slots.end()}, device)) {}
  [[nodiscard]] Sequences sequences() const {
    return {slots.numel(), ends.const_data_ptr<std::int32_t>(), slots.const_data_ptr<std::int32_t>()};
  }
  at::Tensor ends, slots;
};

// Heads in float32, each divided by its length.
at::Tensor normalized(const at::Tensor& heads) {
  const at::Tensor x = heads.to(at::kFloat);
  return x * (x.square().sum(-1, true) + kL2NormEps).rsqrt();
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  return at::linear(x, weight, bias);
}

at::Tensor linear_float(const at::Tensor& x, const at::Tensor& weight) {
  if (x.scalar_type() == at::kFloat) return at::linear(x, weight);
  return at::mm(x, weight.t(), at::kFloat);
}

at::Tensor rms_norm(const at::Tensor& input, const at::Tensor& weight_tensor, double eps, NormScale scale) {
  const at::Tensor x = plain_rows(input), weight = weight_tensor.contiguous();
  at::Tensor out = empty_as(input);
  const Launch launch(x);
  rms_norm(type_of(x), rows_of(x), weight.const_data_ptr(), static_cast<float>(eps),
           scale == NormScale::kOnePlusWeight, x.size(-1), out.mutable_data_ptr(), launch.stream());
  launch.check();
  return out;
}

at::Tensor add_rms_norm(at::Tensor& residual, const at::Tensor& delta_tensor, const at::Tensor& weight_tensor,
                        double eps, NormScale scale) {
  if (!has_plain_rows(residual)) {
    residual.add_(delta_tensor);
    return cuda::rms_norm(residual, weight_tensor, eps, scale);
  }
  const at::Tensor delta = has_plain_rows(delta_tensor) ? delta_tensor : delta_tensor.contiguous();
  const at::Tensor weight = weight_tensor.contiguous();
  at::Tensor out = empty_as(residual);
  const Launch launch(residual);
  add_rms_norm(type_of(residual), rows_of(residual), rows_of(delta), weight.const_data_ptr(),
               static_cast<float>(eps), scale == NormScale::kOnePlusWeight, residual.size(-1),
               out.mutable_data_ptr(), launch.stream());
  launch.check();
  return out;
}

at::Tensor layer_norm(const at::Tensor& input, const at::Tensor& weight_tensor, const at::Tensor& bias_tensor,
                      double eps) {
  const at::Tensor x = plain_rows(input), weight = weight_tensor.contiguous(),
                   bias = bias_tensor.contiguous();
  at::Tensor out = empty_as(input);
  const Launch launch(x);
  layer_norm(type_of(x), rows_of(x), weight.const_data_ptr(), bias.const_data_ptr(), static_cast<float>(eps),
             x.size(-1), out.mutable_data_ptr(), launch.stream());
  launch.check();
  return out;
}

at::Tensor silu_mul(const at::Tensor& input) {
  const at::Tensor gate_up = dense_rows(input);
  const std::int64_t n = gate_up.size(1) / 2;
  at::Tensor out = at::empty({gate_up.size(0), n}, gate_up.options());
  const Launch launch(gate_up);
  silu_mul(type_of(gate_up), rows_of(gate_up), n, out.mutable_data_ptr(), launch.stream());
  launch.check();
  return out;
}

at::Tensor activate(const at::Tensor& input, Activation activation) {
  const at::Tensor x = input.contiguous();
  at::Tensor out = empty_as(x);
  const auto function = [&] {
    switch (activation) {
      case Activation::kQuickGelu:
        return Function::kQuickGelu;
      case Activation::kGelu:
        return Function::kGelu;
      case Activation::kGeluTanh:
        return Function::kGeluTanh;
      case Activation::kSilu:
        return Function::kSilu;
    }
    TORCH_CHECK(false, "activate: unknown activation ", static_cast<int>(activation));
  }();
  const Launch launch(x);
  activate(type_of(x), function, x.const_data_ptr(), x.numel(), out.mutable_data_ptr(), launch.stream());
  launch.check();
  return out;
}

at::Tensor gated(const at::Tensor& input, const at::Tensor& gate_tensor, Gate kind) {
  const at::Tensor x = plain_rows(input), gate = plain_rows(gate_tensor);
  at::Tensor out = empty_as(input);
  const Launch launch(x);
  gated(type_of(x), kind == Gate::kSilu, rows_of(x), rows_of(gate), x.size(-1), out.mutable_data_ptr(),
        launch.stream());
  launch.check();
  return out;
}

void rope(at::Tensor& x, const at::Tensor& cos_tensor, const at::Tensor& sin_tensor) {
  const at::Tensor cos = cos_tensor.contiguous(), sin = sin_tensor.contiguous();
  const Launch launch(x);
  rope(type_of(x), x.mutable_data_ptr(), x.size(0), x.size(1), x.size(2), x.stride(0), x.stride(1),
       cos.const_data_ptr<float>(), sin.const_data_ptr<float>(), launch.stream());
  launch.check();
}

void store_kv(const at::Tensor& k_tensor, const at::Tensor& v_tensor, PagedCache& cache,
              const PagedBatch& batch) {
  const at::Tensor k = dense_rows(k_tensor), v = dense_rows(v_tensor);
  const Launch launch(k);
  store_kv(type_of(k), {k.const_data_ptr(), k.stride(0), k.stride(1)},
           {v.const_data_ptr(), v.stride(0), v.stride(1)}, batch.slots.const_data_ptr<std::int64_t>(),
           k.size(0), k.size(1), k.size(2), cache.keys.mutable_data_ptr(), cache.values.mutable_data_ptr(),
           launch.stream());
  launch.check();
}

at::Tensor causal_conv_silu(const at::Tensor& input, const at::Tensor& weight, at::Tensor& columns,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots) {
  const at::Tensor x = dense_rows(input);
  at::Tensor out = at::empty({x.size(0), x.size(1)}, x.options());
  const DeviceSequences where(cu_seqlens, slots, x.device());
  const Launch launch(x);
  conv_silu(type_of(x), where.sequences(), {x.size(1), weight.size(0), x.stride(0)}, x.const_data_ptr(),
            weight.const_data_ptr(), columns.mutable_data_ptr(), out.mutable_data_ptr(), launch.stream());
  launch.check();
  return out;
}

at::Tensor gated_delta_rule(const DeltaInputs& in, at::Tensor& memory,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots) {
  const at::Tensor k = normalized(in.k).contiguous(), v = in.v.to(at::kFloat).contiguous();
  const at::Tensor q = (normalized(in.q) / std::sqrt(static_cast<double>(in.q.size(2)))).contiguous();
  const at::Tensor decay = (at::softplus(in.a.to(at::kFloat) + in.dt_bias) * in.rate).exp().contiguous();
  const at::Tensor beta = in.b.sigmoid().to(at::kFloat).contiguous();
  at::Tensor out = at::empty({v.size(0), v.size(1) * v.size(2)}, v.options());
  DeltaRule rule;
  rule.heads = v.size(1);
  rule.key_heads = k.size(1);
  rule.key_dim = k.size(2);
  rule.value_dim = v.size(2);
  rule.q = q.const_data_ptr<float>();
  rule.k = k.const_data_ptr<float>();
  rule.v = v.const_data_ptr<float>();
  rule.decay = decay.const_data_ptr<float>();
  rule.beta = beta.const_data_ptr<float>();
  rule.memory = memory.mutable_data_ptr<float>();
  rule.out = out.mutable_data_ptr<float>();
  const DeviceSequences where(cu_seqlens, slots, v.device());
  const Launch launch(v);
  delta_rule(where.sequences(), rule, launch.stream());
  launch.check();
  return out.to(in.v.scalar_type());
}

}  // namespace tte::kernels::cuda
