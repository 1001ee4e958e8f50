// Checks arguments once for every device, and hands them to the device's table.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "kernels/table.h"
#include "tte/error.h"

namespace tte::kernels {

const KernelTable& table_of(at::Device device) {
  if (device.is_cpu()) return cpu_kernels();
  if (device.is_cuda()) {
    if (const KernelTable* table = loaded_cuda_kernels()) return *table;
    throw DeviceError(fmt::format(
        "A tensor is on {}, but the CUDA kernels are not loaded: call load_cuda() first.", device.str()));
  }
  throw DeviceError(fmt::format("There are no kernels for device '{}': use 'cpu' or 'cuda'.", device.str()));
}

namespace {

void check_type(const char* function, const at::Tensor& x) {
  const auto type = x.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kHalf, function,
              " takes float32, bfloat16 or float16, not ", type);
}

void check_same(const char* function, const at::Tensor& x, const at::Tensor& other) {
  TORCH_CHECK(x.scalar_type() == other.scalar_type() && x.device() == other.device(), function,
              ": tensors differ in type or device: ", x.scalar_type(), " on ", x.device(), " and ",
              other.scalar_type(), " on ", other.device());
}

void check_linear(const char* function, const at::Tensor& x, const Weight& weight,
                  const std::optional<at::Tensor>& bias = std::nullopt) {
  check_type(function, x);
  TORCH_CHECK(x.scalar_type() == weight.dtype() && x.device() == weight.device(), function, ": x is ",
              x.scalar_type(), " on ", x.device(), ", but the weight wants ", weight.dtype(), " on ",
              weight.device());
  TORCH_CHECK(x.dim() == 2 && x.size(1) == weight.inputs(), function, ": x ", x.sizes(),
              " does not fit a weight of ", weight.inputs(), " inputs");
  if (!bias.has_value()) return;
  check_same(function, x, *bias);
  TORCH_CHECK(bias->dim() == 1 && bias->size(0) == weight.outputs(), function, ": bias ", bias->sizes(),
              " does not fit a weight of ", weight.outputs(), " outputs");
}

void check_norm(const char* function, const at::Tensor& x, const at::Tensor& weight) {
  check_type(function, x);
  check_same(function, x, weight);
  TORCH_CHECK(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0), function, ": x ", x.sizes(),
              " does not fit weight ", weight.sizes());
}

void check_batch(const char* function, const at::Tensor& rows, const PagedCache& cache,
                 const PagedBatch& batch) {
  TORCH_CHECK(cache.keys.dim() == 4 && cache.keys.sizes() == cache.values.sizes(), function, ": cache keys ",
              cache.keys.sizes(), " and values ", cache.values.sizes(), " differ");
  TORCH_CHECK(cache.keys.is_contiguous() && cache.values.is_contiguous(), function,
              ": the cache must be contiguous");
  check_same(function, rows, cache.keys);
  check_same(function, rows, cache.values);
  TORCH_CHECK(!batch.cu_seqlens.empty() && batch.cu_seqlens.front() == 0 &&
                  batch.cu_seqlens.back() == rows.size(0) &&
                  batch.lengths.size() + 1 == batch.cu_seqlens.size(),
              function, ": cu_seqlens or lengths do not fit ", rows.size(0), " rows");
  TORCH_CHECK(batch.block_table.dim() == 2 && batch.block_table.scalar_type() == at::kInt &&
                  batch.block_table.stride(1) == 1 && batch.block_table.device() == rows.device() &&
                  batch.block_table.size(0) >= static_cast<std::int64_t>(batch.lengths.size()),
              function, ": block_table must be int32 [sequences, blocks] on ", rows.device(), ", not ",
              batch.block_table.scalar_type(), " ", batch.block_table.sizes(), " on ",
              batch.block_table.device());
  TORCH_CHECK(batch.slots.scalar_type() == at::kLong && batch.slots.is_contiguous() &&
                  batch.slots.device() == rows.device(),
              function, ": slots must be dense int64 on ", rows.device(), ", not ", batch.slots.scalar_type(),
              " on ", batch.slots.device());
}

void check_slots(const char* function, std::int64_t rows, const at::Tensor& states,
                 const std::vector<std::int32_t>& cu_seqlens, const std::vector<std::int64_t>& slots) {
  TORCH_CHECK(cu_seqlens.size() == slots.size() + 1 && cu_seqlens.front() == 0 && cu_seqlens.back() == rows,
              function, ": ", cu_seqlens.size(), " cu_seqlens and ", slots.size(), " slots do not fit ", rows,
              " rows");
  TORCH_CHECK(states.is_contiguous(), function, ": what slots keep must be contiguous");
  for (const std::int64_t slot : slots)
    TORCH_CHECK(slot >= 0 && slot < states.size(0), function, ": there is no slot ", slot);
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
  check_linear("linear", x, weight, bias);
  return weight.format().linear(x, weight, bias);
}

at::Tensor linear_activated(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias,
                            Activation activation) {
  check_linear("linear_activated", x, weight, bias);
  const auto both = weight.format().linear_activated;
  return both != nullptr ? both(x, weight, bias, activation)
                         : activate(weight.format().linear(x, weight, bias), activation);
}

at::Tensor linear_silu_mul(const at::Tensor& x, const Weight& gate_up,
                           const std::optional<at::Tensor>& bias) {
  check_linear("linear_silu_mul", x, gate_up, bias);
  TORCH_CHECK(gate_up.outputs() % 2 == 0,
              "linear_silu_mul: gate_up must have an even number of outputs, not ", gate_up.outputs());
  const auto both = gate_up.format().linear_silu_mul;
  return both != nullptr ? both(x, gate_up, bias) : silu_mul(gate_up.format().linear(x, gate_up, bias));
}

at::Tensor linear_float(const at::Tensor& x, const Weight& weight) {
  check_linear("linear_float", x, weight);
  return weight.format().linear_float(x, weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, NormScale scale) {
  check_norm("rms_norm", x, weight);
  return table_of(x).rms_norm(x, weight, eps, scale);
}

at::Tensor add_rms_norm(at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps,
                        NormScale scale) {
  check_norm("add_rms_norm", residual, weight);
  check_same("add_rms_norm", residual, delta);
  TORCH_CHECK(residual.sizes() == delta.sizes(), "add_rms_norm: residual ", residual.sizes(), " and delta ",
              delta.sizes(), " differ");
  return table_of(residual).add_rms_norm(residual, delta, weight, eps, scale);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  check_norm("layer_norm", x, weight);
  check_norm("layer_norm", x, bias);
  return table_of(x).layer_norm(x, weight, bias, eps);
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  check_type("silu_mul", gate_up);
  TORCH_CHECK(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0, "silu_mul: gate_up must be [rows, 2 * n], not ",
              gate_up.sizes());
  return table_of(gate_up).silu_mul(gate_up);
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  check_type("activate", x);
  return table_of(x).activate(x, activation);
}

at::Tensor gated(const at::Tensor& x, const at::Tensor& gate, Gate kind) {
  check_type("gated", x);
  check_same("gated", x, gate);
  TORCH_CHECK(x.dim() >= 1 && x.sizes() == gate.sizes(), "gated: x ", x.sizes(), " and gate ", gate.sizes(),
              " differ");
  return table_of(x).gated(x, gate, kind);
}

void rope_(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  check_type("rope_", x);
  TORCH_CHECK(x.dim() == 3 && x.size(2) % 2 == 0 && x.stride(2) == 1,
              "rope_: x must be [rows, heads, head_dim] with an even, dense head_dim, not ", x.sizes());
  for (const at::Tensor* angle : {&cos, &sin}) {
    TORCH_CHECK(angle->scalar_type() == at::kFloat && angle->device() == x.device() && angle->dim() == 2 &&
                    angle->size(0) == x.size(0) && angle->size(1) == x.size(2),
                "rope_: cos and sin must be float32 [", x.size(0), ", ", x.size(2), "] on ", x.device(),
                ", not ", angle->scalar_type(), " ", angle->sizes());
  }
  table_of(x).rope(x, cos, sin);
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale) {
  check_type("attention", q);
  check_same("attention", q, k);
  check_same("attention", q, v);
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && k.sizes() == v.sizes() && q.size(0) == k.size(0) &&
                  q.size(2) == k.size(2) && k.size(1) > 0 && q.size(1) % k.size(1) == 0,
              "attention: q ", q.sizes(), ", k ", k.sizes(), " and v ", v.sizes(), " do not fit each other");
  TORCH_CHECK(!cu_seqlens.empty() && cu_seqlens.front() == 0 && cu_seqlens.back() == q.size(0),
              "attention: cu_seqlens must run from 0 to ", q.size(0), " rows");
  return table_of(q).attention(q, k, v, cu_seqlens, causal, scale);
}

void store_kv(const at::Tensor& k, const at::Tensor& v, PagedCache& cache, const PagedBatch& batch) {
  check_type("store_kv", k);
  check_same("store_kv", k, v);
  check_batch("store_kv", k, cache, batch);
  TORCH_CHECK(k.dim() == 3 && k.sizes() == v.sizes() && k.size(1) == cache.keys.size(2) &&
                  k.size(2) == cache.keys.size(3) && batch.slots.numel() == k.size(0),
              "store_kv: k ", k.sizes(), ", v ", v.sizes(), " and ", batch.slots.numel(),
              " slots do not fit cache ", cache.keys.sizes());
  table_of(k).store_kv(k, v, cache, batch);
}

at::Tensor paged_attention(const at::Tensor& q, const PagedCache& cache, const PagedBatch& batch,
                           double scale) {
  check_type("paged_attention", q);
  check_batch("paged_attention", q, cache, batch);
  TORCH_CHECK(q.dim() == 3 && q.size(2) == cache.keys.size(3) && q.size(1) % cache.keys.size(2) == 0,
              "paged_attention: q ", q.sizes(), " does not fit cache ", cache.keys.sizes());
  const std::int32_t least = batch.device_lengths.defined() ? 1 : 0;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const std::int32_t rows = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    TORCH_CHECK(rows >= least && rows <= batch.lengths[i] &&
                    batch.lengths[i] <= batch.block_table.size(1) * cache.keys.size(1),
                "paged_attention: sequence ", i, " has ", rows, " rows and length ", batch.lengths[i], " in ",
                batch.block_table.size(1), " blocks");
  }
  return table_of(q).paged_attention(q, cache, batch, scale);
}

bool reads_device_lengths(at::Device device, at::ScalarType type, std::int64_t head_dim) {
  const auto function = table_of(device).reads_device_lengths;
  return function != nullptr && function(device, type, head_dim);
}

std::unique_ptr<Recording> record(at::Device device, const std::function<void()>& work, Recording* sharing) {
  const auto function = table_of(device).record;
  TORCH_CHECK(function != nullptr, "record: there is nothing to be gained on ", device);
  return function(device, work, sharing);
}

at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight, at::Tensor& columns,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots) {
  check_type("causal_conv_silu", x);
  check_same("causal_conv_silu", x, weight);
  check_same("causal_conv_silu", x, columns);
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && columns.dim() == 3 && weight.is_contiguous() &&
                  weight.size(0) == columns.size(1) + 1 && weight.size(1) == x.size(1) &&
                  columns.size(2) == x.size(1),
              "causal_conv_silu: x ", x.sizes(), ", weight ", weight.sizes(), " and columns ",
              columns.sizes(), " do not fit each other");
  check_slots("causal_conv_silu", x.size(0), columns, cu_seqlens, slots);
  return table_of(x).causal_conv_silu(x, weight, columns, cu_seqlens, slots);
}

at::Tensor gated_delta_rule(const DeltaInputs& in, at::Tensor& memory,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots) {
  check_type("gated_delta_rule", in.v);
  for (const at::Tensor* other : {&in.q, &in.k, &in.a, &in.b}) check_same("gated_delta_rule", in.v, *other);
  check_same("gated_delta_rule", memory, in.rate);
  check_same("gated_delta_rule", memory, in.dt_bias);
  const std::int64_t rows = in.v.size(0), heads = in.v.size(1);
  TORCH_CHECK(in.q.dim() == 3 && in.v.dim() == 3 && in.q.sizes() == in.k.sizes() && in.q.size(0) == rows &&
                  in.q.size(1) > 0 && heads % in.q.size(1) == 0,
              "gated_delta_rule: q ", in.q.sizes(), ", k ", in.k.sizes(), " and v ", in.v.sizes(),
              " do not fit each other");
  for (const at::Tensor* gates : {&in.a, &in.b}) {
    TORCH_CHECK(gates->dim() == 2 && gates->size(0) == rows && gates->size(1) == heads,
                "gated_delta_rule: a and b must be [", rows, ", ", heads, "], not ", gates->sizes());
  }
  TORCH_CHECK(memory.scalar_type() == at::kFloat && memory.dim() == 4 && memory.size(1) == heads &&
                  memory.size(2) == in.k.size(2) && memory.size(3) == in.v.size(2) &&
                  in.rate.numel() == heads && in.dt_bias.numel() == heads && in.rate.is_contiguous() &&
                  in.dt_bias.is_contiguous(),
              "gated_delta_rule: memory ", memory.sizes(), " must be float32 [slots, ", heads, ", ",
              in.k.size(2), ", ", in.v.size(2), "], with as many rates and biases");
  check_slots("gated_delta_rule", rows, memory, cu_seqlens, slots);
  return table_of(in.v).gated_delta_rule(in, memory, cu_seqlens, slots);
}

std::vector<at::Tensor> broadcast(const at::Tensor& x, const std::vector<at::Device>& devices) {
  check_type("broadcast", x);
  TORCH_CHECK(!devices.empty() && devices.front() == x.device(), "broadcast: x is on ", x.device(),
              ", which must be the first device");
  return table_of(x).broadcast(x, devices);
}

at::Tensor reduce_sum(const std::vector<at::Tensor>& parts) {
  TORCH_CHECK(!parts.empty(), "reduce_sum: nothing to add");
  check_type("reduce_sum", parts.front());
  for (const at::Tensor& part : parts)
    TORCH_CHECK(part.sizes() == parts.front().sizes() && part.scalar_type() == parts.front().scalar_type(),
                "reduce_sum: ", part.scalar_type(), " ", part.sizes(), " and ", parts.front().scalar_type(),
                " ", parts.front().sizes(), " differ");
  return table_of(parts.front()).reduce_sum(parts);
}

std::int64_t cache_block_size(at::Device device) {
  return table_of(device).cache_block_size;
}

}  // namespace tte::kernels
