// What layers with a recurrent state compute: a thread goes through all rows of its sequence.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/recurrent.h"

namespace tte::kernels::cuda {
namespace {

constexpr unsigned kThreads = 128;

unsigned blocks_for(std::int64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

// A thread has one channel of one sequence.
template <typename T>
__global__ void conv_silu_kernel(Sequences sequences, Convolution conv, const T* x, const T* weight,
                                 T* columns, T* out) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= sequences.count * conv.channels) return;
  const std::int64_t channel = index % conv.channels, sequence = index / conv.channels;
  const std::int64_t begin = sequences.cu_seqlens[sequence];
  const std::int64_t rows = sequences.cu_seqlens[sequence + 1] - begin, kept = conv.width - 1;
  T* column = columns + sequences.slots[sequence] * kept * conv.channels + channel;
  // Input `row` of this step; a negative one is of an earlier step.
  const auto input = [&](std::int64_t row) {
    return row >= 0 ? x[(begin + row) * conv.row_stride + channel] : column[(row + kept) * conv.channels];
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    float sum = 0.0f;
    for (std::int64_t tap = 0; tap < conv.width; ++tap)
      sum += widen(input(row - kept + tap)) * widen(weight[tap * conv.channels + channel]);
    const float v = widen(narrow<T>(sum));
    out[(begin + row) * conv.channels + channel] = narrow<T>(v / (1.0f + expf(-v)));
  }
  for (std::int64_t i = 0; i < kept; ++i) column[i * conv.channels] = input(rows - kept + i);
}

// A thread has one column of the memory of one head of one sequence.
__global__ void delta_rule_kernel(Sequences sequences, DeltaRule rule) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= sequences.count * rule.heads * rule.value_dim) return;
  const std::int64_t column = index % rule.value_dim, head = index / rule.value_dim % rule.heads,
                     sequence = index / rule.value_dim / rule.heads;
  const std::int64_t key_head = head / (rule.heads / rule.key_heads);
  float* memory =
      rule.memory + (sequences.slots[sequence] * rule.heads + head) * rule.key_dim * rule.value_dim + column;
  for (std::int64_t row = sequences.cu_seqlens[sequence]; row < sequences.cu_seqlens[sequence + 1]; ++row) {
    const float* q = rule.q + (row * rule.key_heads + key_head) * rule.key_dim;
    const float* k = rule.k + (row * rule.key_heads + key_head) * rule.key_dim;
    const std::int64_t gate = row * rule.heads + head, value = gate * rule.value_dim + column;
    const float decay = rule.decay[gate];
    float held = 0.0f;
    for (std::int64_t i = 0; i < rule.key_dim; ++i) held += memory[i * rule.value_dim] * k[i];
    const float change = (rule.v[value] - held * decay) * rule.beta[gate];
    float out = 0.0f;
    for (std::int64_t i = 0; i < rule.key_dim; ++i) {
      const float now = memory[i * rule.value_dim] * decay + k[i] * change;
      memory[i * rule.value_dim] = now;
      out += now * q[i];
    }
    rule.out[value] = out;
  }
}

}  // namespace

void conv_silu(Type type, const Sequences& sequences, const Convolution& conv, const void* x,
               const void* weight, void* columns, void* out, cudaStream_t stream) {
  const std::int64_t count = sequences.count * conv.channels;
  if (count == 0) return;
  with_values(type, out, [&](auto* values) {
    auto* kept = static_cast<decltype(values)>(columns);
    const auto* in = static_cast<decltype(values)>(const_cast<void*>(x));
    const auto* taps = static_cast<decltype(values)>(const_cast<void*>(weight));
    conv_silu_kernel<<<blocks_for(count), kThreads, 0, stream>>>(sequences, conv, in, taps, kept, values);
  });
}

void delta_rule(const Sequences& sequences, const DeltaRule& rule, cudaStream_t stream) {
  const std::int64_t count = sequences.count * rule.heads * rule.value_dim;
  if (count == 0) return;
  delta_rule_kernel<<<blocks_for(count), kThreads, 0, stream>>>(sequences, rule);
}

}  // namespace tte::kernels::cuda
