#include <ATen/ATen.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/tensors.h"

namespace tte::kernels::cpu {
namespace {

// The rows (all dimensions but the last) of a tensor whose last dimension is dense.
class Rows {
 public:
  explicit Rows(const at::Tensor& x) : data_(static_cast<char*>(const_cast<void*>(x.const_data_ptr()))) {
    const std::int64_t size = x.element_size();
    for (std::int64_t d = x.dim() - 2; d >= 0; --d) {
      if (!strides_.empty() && strides_.back() * counts_.back() == x.stride(d) * size) {
        counts_.back() *= x.size(d);  // Goes on evenly from the dimension inside.
      } else {
        counts_.push_back(x.size(d));
        strides_.push_back(x.stride(d) * size);
      }
    }
  }
  [[nodiscard]] void* operator[](std::int64_t row) const {
    char* address = data_;
    for (std::size_t d = 0; d < counts_.size(); ++d) {
      const bool outermost = d + 1 == counts_.size();
      address += (outermost ? row : row % counts_[d]) * strides_[d];
      if (!outermost) row /= counts_[d];
    }
    return address;
  }

 private:
  char* data_;
  c10::SmallVector<std::int64_t, 4> counts_, strides_;  // Innermost first.
};

std::int64_t count_rows(const at::Tensor& x) {
  return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
}

at::Tensor dense_like(const at::Tensor& x) {
  return at::empty(x.sizes(), x.options());
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& input, const at::Tensor& weight_tensor, double eps, NormScale scale) {
  const at::Tensor x = dense_rows(input), weight = weight_tensor.contiguous();
  at::Tensor out = dense_like(x);
  const std::int64_t n = x.size(-1);
  const Rows in_rows(x), out_rows(out);
  const Type type = type_of(x);
  for_rows(count_rows(x), n, [&](std::int64_t row) {
    simd::rms_norm(type, in_rows[row], weight.const_data_ptr(), static_cast<float>(eps),
                   scale == NormScale::kOnePlusWeight, static_cast<std::size_t>(n), out_rows[row]);
  });
  return out;
}

at::Tensor add_rms_norm(at::Tensor& residual, const at::Tensor& delta_tensor, const at::Tensor& weight_tensor,
                        double eps, NormScale scale) {
  if (residual.stride(-1) != 1 && residual.size(-1) > 1) {
    residual.add_(delta_tensor);
    return cpu::rms_norm(residual, weight_tensor, eps, scale);
  }
  const at::Tensor delta = dense_rows(delta_tensor), weight = weight_tensor.contiguous();
  at::Tensor out = dense_like(residual);
  const std::int64_t n = residual.size(-1);
  const Rows residual_rows(residual), delta_rows(delta), out_rows(out);
  const Type type = type_of(residual);
  for_rows(count_rows(residual), n, [&](std::int64_t row) {
    simd::add_rms_norm(type, residual_rows[row], delta_rows[row], weight.const_data_ptr(),
                       static_cast<float>(eps), scale == NormScale::kOnePlusWeight,
                       static_cast<std::size_t>(n), out_rows[row]);
  });
  return out;
}

at::Tensor layer_norm(const at::Tensor& input, const at::Tensor& weight_tensor, const at::Tensor& bias_tensor,
                      double eps) {
  const at::Tensor x = dense_rows(input), weight = weight_tensor.contiguous(),
                   bias = bias_tensor.contiguous();
  at::Tensor out = dense_like(x);
  const std::int64_t n = x.size(-1);
  const Rows in_rows(x), out_rows(out);
  const Type type = type_of(x);
  for_rows(count_rows(x), n, [&](std::int64_t row) {
    simd::layer_norm(type, in_rows[row], weight.const_data_ptr(), bias.const_data_ptr(),
                     static_cast<float>(eps), static_cast<std::size_t>(n), out_rows[row]);
  });
  return out;
}

at::Tensor silu_mul(const at::Tensor& input) {
  const at::Tensor gate_up = dense_rows(input);
  const std::int64_t n = gate_up.size(1) / 2, size = gate_up.element_size();
  at::Tensor out = at::empty({gate_up.size(0), n}, gate_up.options());
  const Rows in_rows(gate_up), out_rows(out);
  const Type type = type_of(gate_up);
  for_rows(n == 0 ? 0 : gate_up.size(0), n, [&](std::int64_t row) {
    const auto* gate = static_cast<const char*>(in_rows[row]);
    simd::silu_mul(type, gate, gate + n * size, static_cast<std::size_t>(n), out_rows[row]);
  });
  return out;
}

at::Tensor activate(const at::Tensor& input, Activation activation) {
  const at::Tensor x = input.contiguous();
  at::Tensor out = dense_like(x);
  // One row of values, cut into pieces for the threads.
  constexpr std::int64_t kPiece = 4096;
  const std::int64_t total = x.numel();
  const Type type = type_of(x);
  for_rows((total + kPiece - 1) / kPiece, kPiece, [&](std::int64_t piece) {
    const std::int64_t begin = piece * kPiece;
    simd::activate(type, activation, at_element(x, begin),
                   static_cast<std::size_t>(std::min(kPiece, total - begin)), at_mutable_element(out, begin));
  });
  return out;
}

at::Tensor gated(const at::Tensor& input, const at::Tensor& gate_tensor, Gate kind) {
  const at::Tensor x = dense_rows(input), gate = dense_rows(gate_tensor);
  at::Tensor out = dense_like(x);
  const std::int64_t n = x.size(-1);
  const Rows in_rows(x), gate_rows(gate), out_rows(out);
  const Type type = type_of(x);
  for_rows(count_rows(x), n, [&](std::int64_t row) {
    simd::gated(type, kind, in_rows[row], gate_rows[row], static_cast<std::size_t>(n), out_rows[row]);
  });
  return out;
}

void rope(at::Tensor& x, const at::Tensor& cos_tensor, const at::Tensor& sin_tensor) {
  const at::Tensor cos = cos_tensor.contiguous(), sin = sin_tensor.contiguous();
  const std::int64_t heads = x.size(1), head_dim = x.size(2);
  const Type type = type_of(x);
  const auto *cosines = cos.const_data_ptr<float>(), *sines = sin.const_data_ptr<float>();
  for_rows(x.size(0), heads * head_dim, [&](std::int64_t row) {
    simd::rope(type, at_mutable_element(x, row * x.stride(0)), static_cast<std::size_t>(heads),
               static_cast<std::size_t>(x.stride(1)), cosines + row * head_dim, sines + row * head_dim,
               static_cast<std::size_t>(head_dim));
  });
}

std::vector<at::Tensor> broadcast(const at::Tensor& x, const std::vector<at::Device>& devices) {
  return std::vector(devices.size(), x);
}

at::Tensor reduce_sum(const std::vector<at::Tensor>& parts) {
  at::Tensor sum = parts.front().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  for (std::size_t i = 1; i < parts.size(); ++i) sum.add_(parts[i]);
  return sum.to(parts.front().scalar_type());
}

}  // namespace tte::kernels::cpu
