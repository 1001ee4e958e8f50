// What layers with a recurrent state compute, sequence by sequence.
#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/scratch.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/delta_rule.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/tensors.h"

namespace tte::kernels::cpu {
namespace {

// A sequence's inputs of a convolution: what it kept of earlier steps, then the rows of this one.
class Inputs {
 public:
  Inputs(const at::Tensor& x, std::int64_t first_row, const at::Tensor& columns, std::int64_t slot)
      : x_(x), columns_(columns), first_row_(first_row), slot_(slot), kept_(columns.size(1)) {}
  // Row `row` of this step; a negative one is of an earlier step.
  [[nodiscard]] const void* operator[](std::int64_t row) const {
    return row >= 0 ? at_element(x_, (first_row_ + row) * x_.stride(0)) : column(row + kept_);
  }
  // Keeps the last of `rows` rows of this step for the next one.
  void keep(std::int64_t rows) const {
    for (std::int64_t i = 0; i < kept_; ++i) {  // What is read lies behind what was written.
      std::memcpy(column(i), (*this)[rows - kept_ + i],
                  static_cast<std::size_t>(x_.size(1) * x_.element_size()));
    }
  }

 private:
  [[nodiscard]] void* column(std::int64_t i) const {
    return at_mutable_element(columns_, (slot_ * kept_ + i) * columns_.size(2));
  }
  const at::Tensor &x_, &columns_;
  std::int64_t first_row_, slot_, kept_;
};

// The values of each head, dense and normalised in float32.
at::Tensor normalized(const at::Tensor& heads, float scale) {
  const at::Tensor x = heads.to(at::kFloat).contiguous();
  at::Tensor out = at::empty_like(x);
  const std::int64_t n = x.size(2);
  for_rows(x.size(0), x.size(1) * n, [&](std::int64_t row) {
    for (std::int64_t head = row * x.size(1); head < (row + 1) * x.size(1); ++head) {
      simd::l2_normalize(x.const_data_ptr<float>() + head * n, kL2NormEps, scale, static_cast<std::size_t>(n),
                         out.mutable_data_ptr<float>() + head * n);
    }
  });
  return out;
}

// How much of the memory each row leaves of what is there, and how much of its change it writes: [rows, heads].
struct Gates {
  at::Tensor decay, beta;
};
Gates gates_of(const DeltaInputs& in) {
  const at::Tensor a = in.a.to(at::kFloat).contiguous(), b = in.b.to(at::kFloat).contiguous();
  Gates out{at::empty_like(a), at::empty_like(b)};
  const auto *rate = in.rate.const_data_ptr<float>(), *dt_bias = in.dt_bias.const_data_ptr<float>();
  const std::int64_t heads = a.size(1);
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const float dt = a.const_data_ptr<float>()[i] + dt_bias[i % heads];
    const float softplus = dt > 20.0F ? dt : std::log1p(std::exp(dt));
    out.decay.mutable_data_ptr<float>()[i] = std::exp(rate[i % heads] * softplus);
    out.beta.mutable_data_ptr<float>()[i] = 1.0F / (1.0F + std::exp(-b.const_data_ptr<float>()[i]));
  }
  out.beta = out.beta.to(in.b.scalar_type()).to(at::kFloat);
  return out;
}

}  // namespace

at::Tensor causal_conv_silu(const at::Tensor& input, const at::Tensor& weight, at::Tensor& columns,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots) {
  const at::Tensor x = dense_rows(input);
  const std::int64_t width = weight.size(0), n = x.size(1);
  at::Tensor out = at::empty({x.size(0), n}, x.options());
  std::vector<Inputs> inputs;          // One a sequence.
  std::vector<std::size_t> sequences;  // The sequence of each row.
  for (std::size_t i = 0; i < slots.size(); ++i) {
    inputs.emplace_back(x, cu_seqlens[i], columns, slots[i]);
    sequences.resize(static_cast<std::size_t>(cu_seqlens[i + 1]), i);
  }
  for_rows(x.size(0), width * n, [&](std::int64_t row) {
    const std::size_t sequence = sequences[static_cast<std::size_t>(row)];
    c10::SmallVector<const void*, 8> taps;
    for (std::int64_t tap = 1 - width; tap <= 0; ++tap)
      taps.push_back(inputs[sequence][row - cu_seqlens[sequence] + tap]);
    simd::conv_silu(type_of(x), taps.data(), weight.const_data_ptr(), static_cast<std::size_t>(width),
                    static_cast<std::size_t>(n), at_mutable_element(out, row * n));
  });
  for (std::size_t i = 0; i < slots.size(); ++i) inputs[i].keep(cu_seqlens[i + 1] - cu_seqlens[i]);
  return out;
}

at::Tensor gated_delta_rule(const DeltaInputs& in, at::Tensor& memory,
                            const std::vector<std::int32_t>& cu_seqlens,
                            const std::vector<std::int64_t>& slots) {
  const std::int64_t key_heads = in.k.size(1), key_dim = in.k.size(2);
  const std::int64_t heads = in.v.size(1), value_dim = in.v.size(2);
  const at::Tensor q = normalized(in.q, 1.0F / std::sqrt(static_cast<float>(key_dim)));
  const at::Tensor k = normalized(in.k, 1.0F);
  const at::Tensor v = in.v.to(at::kFloat).contiguous();
  const Gates gates = gates_of(in);
  at::Tensor out = at::empty({v.size(0), heads * value_dim}, v.options());
  constexpr auto kColumns = static_cast<std::int64_t>(simd::kDeltaColumns);
  const std::int64_t pieces = (value_dim + kColumns - 1) / kColumns;
  const auto units = static_cast<std::int64_t>(slots.size()) * heads * pieces;
  for_units(units, [&](std::int64_t unit) {
    const std::int64_t first = unit % pieces * kColumns, head = unit / pieces % heads;
    const auto sequence = static_cast<std::size_t>(unit / pieces / heads);
    const std::int64_t begin = cu_seqlens[sequence], key_head = head / (heads / key_heads);
    const std::int64_t key = (begin * key_heads + key_head) * key_dim, gate = begin * heads + head;
    const std::int64_t value = (begin * heads + head) * value_dim + first;
    simd::DeltaRule rule;
    rule.rows = static_cast<std::size_t>(cu_seqlens[sequence + 1] - begin);
    rule.key_dim = static_cast<std::size_t>(key_dim);
    rule.columns = static_cast<std::size_t>(std::min(kColumns, value_dim - first));
    rule.q = q.const_data_ptr<float>() + key;
    rule.k = k.const_data_ptr<float>() + key;
    rule.qk_stride = static_cast<std::size_t>(key_heads * key_dim);
    rule.decay = gates.decay.const_data_ptr<float>() + gate;
    rule.beta = gates.beta.const_data_ptr<float>() + gate;
    rule.gate_stride = static_cast<std::size_t>(heads);
    rule.v = v.const_data_ptr<float>() + value;
    rule.out = out.mutable_data_ptr<float>() + value;
    rule.value_stride = static_cast<std::size_t>(heads * value_dim);
    rule.memory =
        memory.mutable_data_ptr<float>() + ((slots[sequence] * heads + head) * key_dim) * value_dim + first;
    rule.memory_stride = static_cast<std::size_t>(value_dim);
    simd::delta_rule(rule, base::scratch(static_cast<std::size_t>(key_dim * kColumns)));
  });
  return out.to(in.v.scalar_type());
}

}  // namespace tte::kernels::cpu
