#include "kernels/reference.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <sstream>

namespace tte::kernels::reference {

at::Tensor random(at::IntArrayRef sizes, at::ScalarType type, std::uint64_t seed, double scale) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return (at::randn(sizes, generator, at::TensorOptions().dtype(at::kFloat)) * scale).to(type);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  const at::Tensor product = x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
  return bias.has_value() ? product + bias->to(at::kDouble) : product;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, NormScale scale) {
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor normalised = wide * at::rsqrt(wide.square().mean(-1, true) + eps);
  if (scale == NormScale::kOnePlusWeight) return normalised * (1 + weight.to(at::kDouble));
  return normalised.to(x.scalar_type()).to(at::kDouble) * weight.to(at::kDouble);
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  const at::Tensor wide = x.to(at::kDouble);
  const at::Tensor centred = wide - wide.mean(-1, true);
  const at::Tensor normalised = centred * at::rsqrt(centred.square().mean(-1, true) + eps);
  return normalised * weight.to(at::kDouble) + bias.to(at::kDouble);
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  const auto halves = gate_up.to(at::kDouble).chunk(2, -1);
  const at::Tensor gate = halves[0] * at::sigmoid(halves[0]);
  return gate.to(gate_up.scalar_type()).to(at::kDouble) * halves[1];
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  const at::Tensor wide = x.to(at::kDouble);
  switch (activation) {
    case Activation::kQuickGelu:
      return wide * at::sigmoid(wide * 1.702);
    case Activation::kGelu:
      return wide * 0.5 * (1.0 + at::erf(wide / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return wide * 0.5 * (1.0 + at::tanh(std::sqrt(2.0 / M_PI) * (wide + 0.044715 * wide.pow(3))));
    case Activation::kSilu:
      return wide * at::sigmoid(wide);
  }
  return {};
}

at::Tensor gated(const at::Tensor& x, const at::Tensor& gate, Gate kind) {
  const at::Tensor wide = gate.to(at::kDouble);
  if (kind == Gate::kSilu) return wide * wide.sigmoid() * x.to(at::kDouble);
  return wide.sigmoid().to(x.scalar_type()).to(at::kDouble) * x.to(at::kDouble);
}

at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight) {
  const std::int64_t width = weight.size(0);
  const at::Tensor wide = at::constant_pad_nd(x.to(at::kDouble), {0, 0, width - 1, 0});
  at::Tensor sum = at::zeros(x.sizes(), at::kDouble);
  for (std::int64_t tap = 0; tap < width; ++tap)
    sum += wide.narrow(0, tap, x.size(0)) * weight[tap].to(at::kDouble);
  sum = sum.to(x.scalar_type()).to(at::kDouble);
  return sum * sum.sigmoid();
}

at::Tensor gated_delta_rule(const DeltaInputs& in) {
  const auto normalized = [&](const at::Tensor& heads) {
    const at::Tensor x = heads.to(at::kDouble).repeat_interleave(in.v.size(1) / in.k.size(1), 1);
    return x * (x.square().sum(-1, true) + 1e-6).rsqrt();
  };
  const at::Tensor q = normalized(in.q) / std::sqrt(static_cast<double>(in.q.size(2))), k = normalized(in.k);
  const at::Tensor v = in.v.to(at::kDouble);
  const at::Tensor decay =
      (in.rate.to(at::kDouble) * at::softplus(in.a.to(at::kDouble) + in.dt_bias.to(at::kDouble))).exp();
  const at::Tensor beta = in.b.to(at::kDouble).sigmoid().to(in.b.scalar_type()).to(at::kDouble);
  at::Tensor memory = at::zeros({v.size(1), k.size(2), v.size(2)}, at::kDouble), out = at::empty_like(v);
  for (std::int64_t row = 0; row < v.size(0); ++row) {
    memory = memory * decay[row].view({-1, 1, 1});
    const at::Tensor held = (memory * k[row].unsqueeze(2)).sum(1);
    const at::Tensor change = (v[row] - held) * beta[row].unsqueeze(1);
    memory = memory + k[row].unsqueeze(2) * change.unsqueeze(1);
    out[row] = (memory * q[row].unsqueeze(2)).sum(1);
  }
  return out.flatten(1);
}

DeltaInputs random_delta_inputs(std::int64_t rows, std::int64_t key_heads, std::int64_t heads,
                                std::int64_t key_dim, std::int64_t value_dim, at::ScalarType type) {
  return {random({rows, key_heads, key_dim}, type, 1),
          random({rows, key_heads, key_dim}, type, 2),
          random({rows, heads, value_dim}, type, 3),
          random({rows, heads}, type, 4),
          random({rows, heads}, type, 5),
          random({heads}, at::kFloat, 6).exp().neg() * 0.1,
          random({heads}, at::kFloat, 7)};
}

DeltaInputs rows_of(const DeltaInputs& in, std::int64_t begin, std::int64_t count) {
  const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, count); };
  return {part(in.q), part(in.k), part(in.v), part(in.a), part(in.b), in.rate, in.dt_bias};
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const at::Tensor wide = x.to(at::kDouble);
  const auto halves = wide.chunk(2, -1);
  const at::Tensor rotated = at::cat({-halves[1], halves[0]}, -1);
  return wide * cos.to(at::kDouble).unsqueeze(1) + rotated * sin.to(at::kDouble).unsqueeze(1);
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     double scale) {
  const std::int64_t group = q.size(1) / k.size(1), rows = q.size(0), length = k.size(0);
  auto heads_first = [](const at::Tensor& x) { return x.to(at::kDouble).transpose(0, 1); };
  const at::Tensor keys = heads_first(k.repeat_interleave(group, 1));
  const at::Tensor values = heads_first(v.repeat_interleave(group, 1));
  at::Tensor scores = heads_first(q).matmul(keys.transpose(1, 2)) * scale;
  if (causal) {
    const at::Tensor seen = at::ones({rows, length}, at::kBool).tril(length - rows);
    scores = scores.masked_fill(seen.logical_not(), -std::numeric_limits<double>::infinity());
  }
  return scores.softmax(-1).matmul(values).transpose(0, 1).reshape({rows, -1});
}

at::Tensor numbers(const base::RoundedMatrix& matrix, base::LinearFormat format, std::int64_t inputs) {
  if (format == base::LinearFormat::kInt8) return matrix.codes.to(at::kDouble) * matrix.scales;
  const auto of_inputs = [inputs](const at::Tensor& x, std::int64_t size) {
    return x.to(at::kDouble).repeat_interleave(size, 1).narrow(1, 0, inputs);
  };
  // The earlier code in the low half.
  const at::Tensor codes =
      at::stack({matrix.codes.bitwise_and(15), matrix.codes.bitwise_right_shift(4)}, 2).flatten(1);
  return (of_inputs(codes, 1) - 8) * of_inputs(matrix.factors, base::kInt4Block) *
         of_inputs(matrix.scales, base::kInt4Group);
}

double rounding(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16:
      return std::ldexp(1.0, -8);
    case at::kHalf:
      return std::ldexp(1.0, -11);
    default:
      return std::ldexp(1.0, -24);
  }
}

std::string difference(const at::Tensor& actual, const at::Tensor& expected, double tolerance,
                       double magnitude) {
  std::ostringstream message;
  if (actual.sizes() != expected.sizes()) {
    message << "shape " << actual.sizes() << " instead of " << expected.sizes();
    return message.str();
  }
  if (actual.numel() == 0) return {};
  const at::Tensor a = actual.cpu().to(at::kDouble).flatten(), e = expected.cpu().to(at::kDouble).flatten();
  if (!at::isfinite(a).all().item<bool>()) return "not all values are finite";
  const at::Tensor excess = (a - e).abs() / (e.abs() + magnitude);
  const auto worst = excess.argmax().item<std::int64_t>();
  if (excess[worst].item<double>() <= tolerance) return {};
  message << "element " << worst << " of " << actual.sizes() << " is " << a[worst].item<double>()
          << " instead of " << e[worst].item<double>() << ": relative error " << excess[worst].item<double>()
          << " > " << tolerance;
  return message.str();
}

Threads::Threads(int threads) : before_(at::get_num_threads()) {
  at::set_num_threads(threads);
}
Threads::~Threads() {
  at::set_num_threads(before_);
}

}  // namespace tte::kernels::reference
