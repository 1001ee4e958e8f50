// The operations models are made of. CPU implementations are linked in; CUDA ones are registered by the
// library tte_cuda when it is loaded. Every function takes float32, bfloat16 or float16 tensors of one
// device, and computes sums and normalisations in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/weight.h"

namespace tte::kernels {

// x [rows, in] times weight [out, in] transposed, plus bias [out]: [rows, out]. A row of the result has the
// same bits whatever rows stand beside it; the exceptions are CUDA, where cuBLAS chooses by the number of
// rows, and large products on processors with AMX (bfloat16) or AVX512_FP16 (float16), which oneDNN computes.
at::Tensor linear(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias);

// The same with a float32 result, for logits.
at::Tensor linear_float(const at::Tensor& x, const Weight& weight);

// What the normalised values of an RMS norm are multiplied with, and where they are rounded to x's type.
enum class NormScale {
  kWeight,         // The weight; rounded before and after, as transformers' Qwen2RMSNorm does.
  kOnePlusWeight,  // One plus the weight; rounded once, after: Qwen3NextRMSNorm, GemmaRMSNorm.
};

// x / sqrt(mean(x^2) + eps) over the last dimension, scaled.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    NormScale scale = NormScale::kWeight);

// residual += delta in place, then rms_norm of the sum: one pass over memory.
at::Tensor add_rms_norm(at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps,
                        NormScale scale = NormScale::kWeight);

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

// x is [rows, 2 * n] = [gate | up]: silu(gate) * up, [rows, n].
at::Tensor silu_mul(const at::Tensor& gate_up);

at::Tensor activate(const at::Tensor& x, Activation activation);

// activate(linear(x, weight, bias), activation), and silu_mul(linear(x, gate_up, bias)): the same bits, and on a CPU
// with a packed weight one pass over the result.
at::Tensor linear_activated(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias,
                            Activation activation);
at::Tensor linear_silu_mul(const at::Tensor& x, const Weight& gate_up, const std::optional<at::Tensor>& bias);

// What x is multiplied with: the sigmoid of a gate, rounded to their type first, or its silu.
enum class Gate { kSigmoid, kSilu };
// x and gate have equal sizes (strided views allowed); the result is dense.
at::Tensor gated(const at::Tensor& x, const at::Tensor& gate, Gate kind);

// Rotary embedding in place on x [rows, heads, head_dim] (may be a strided view): rotate-half form,
// cos and sin float32 [rows, head_dim].
void rope_(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

// Attention within the sequences of a ragged batch. q [rows, heads, head_dim], k and v [rows, kv_heads,
// head_dim] (strided views allowed); sequence i is rows cu_seqlens[i] .. cu_seqlens[i + 1]. Returns [rows,
// heads * head_dim].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale);

// One layer's paged KV cache: sequence i's token p lives in block block_table[i][p / block_size] at p % block_size.
struct PagedCache {
  at::Tensor keys;    // [blocks, block_size, kv_heads, head_dim]
  at::Tensor values;  // [blocks, block_size, kv_heads, head_dim]
};

// How the rows of a ragged batch lie on the paged cache. Built once a step, used by every layer.
struct PagedBatch {
  std::vector<std::int32_t> cu_seqlens;  // [sequences + 1], rows of this step.
  std::vector<std::int32_t> lengths;     // [sequences], tokens cached once this step's rows are stored.
  at::Tensor block_table;                // int32 [sequences, most blocks], on the device of the cache.
  at::Tensor slots;                      // int64 [rows], likewise: block * block_size + offset of each row.
  // The first two as int32 on the device. Where they are defined, `lengths` are only what these may be at most, and
  // every sequence has rows: the step can be recorded. For attention that reads_device_lengths().
  at::Tensor device_cu_seqlens, device_lengths;
};

// Writes k and v [rows, kv_heads, head_dim] to batch.slots.
void store_kv(const at::Tensor& k, const at::Tensor& v, PagedCache& cache, const PagedBatch& batch);

// Causal attention of q [rows, heads, head_dim] over the cached tokens of its own sequence: row j of a sequence with
// n rows this step and length L sees the first L - n + j + 1 tokens. Returns [rows, heads * head_dim].
at::Tensor paged_attention(const at::Tensor& q, const PagedCache& cache, const PagedBatch& batch,
                           double scale);

// Whether paged_attention of such heads reads PagedBatch::device_lengths, and steps of theirs can be recorded.
bool reads_device_lengths(at::Device device, at::ScalarType type, std::int64_t head_dim);

// What one recurrent layer keeps of sequences, each in a slot. Zeros before a sequence begins.
struct RecurrentCache {
  at::Tensor columns;  // [slots, width - 1, channels]: the last inputs of causal_conv_silu, in their type.
  at::Tensor memory;   // float32 [slots, heads, key_dim, value_dim], of gated_delta_rule.
};

// The operations below go on where sequences stand: rows cu_seqlens[i] .. cu_seqlens[i + 1] are the next ones of
// the sequence whose slot is slots[i], and the slot is brought up to the last of them. No slot appears twice. On
// the CPU a row's result has the same bits however its sequence is cut into steps.

// silu of the causal convolution of each channel: x [rows, channels], weight [width, channels], where
// weight[width - 1] is the row's own. Returns [rows, channels].
at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight, at::Tensor& columns,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots);

struct DeltaInputs {
  at::Tensor q, k;  // [rows, key_heads, key_dim] (strided views allowed)
  at::Tensor v;     // [rows, heads, value_dim], head h with the queries and keys of h / (heads / key_heads)
  at::Tensor a, b;  // [rows, heads]
  at::Tensor rate, dt_bias;  // float32 [heads]
};
inline constexpr float kL2NormEps = 1e-6F;

// The gated delta rule, in float32. With q and k divided by the square root of their squares' sum + kL2NormEps, and
// q by that of key_dim too, a row of a head does
//   memory *= exp(rate * softplus(a + dt_bias));
//   memory += k (v - memory^T k)^T * sigmoid(b);
//   out = memory^T q.
// Returns [rows, heads * value_dim].
at::Tensor gated_delta_rule(const DeltaInputs& inputs, at::Tensor& memory,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots);

// What devices that share a layer send each other. x on each of `devices`, of which its own is the first: to be read
// only. And the sum of tensors of one size and type, each on another device, on that of the first; the CPU, which may
// have several, adds in float32 and rounds once, and GPUs round each sum of two.
std::vector<at::Tensor> broadcast(const at::Tensor& x, const std::vector<at::Device>& devices);
at::Tensor reduce_sum(const std::vector<at::Tensor>& parts);

// Tokens per cache block that paged_attention wants on this device.
std::int64_t cache_block_size(at::Device device);

// Loads the CUDA kernels (libtte_cuda.so). Throws DeviceError saying what is missing.
void load_cuda();
bool cuda_available();  // The library is installed, loads, and sees a GPU. Never throws.

}  // namespace tte::kernels
