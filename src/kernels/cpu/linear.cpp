#include <ATen/ATen.h>

#include "kernels/cpu/cpu_kernels.h"

namespace tte::kernels::cpu {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  return at::linear(x, weight, bias);
}

at::Tensor linear_float(const at::Tensor& x, const at::Tensor& weight) {
  if (x.scalar_type() == at::kFloat) return at::linear(x, weight);
  // Widened a slice at a time: a float32 copy of an embedding matrix would be a gigabyte.
  constexpr std::int64_t kSlice = 1024;
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options().dtype(at::kFloat));
  for (std::int64_t begin = 0; begin < weight.size(0); begin += kSlice) {
    const std::int64_t count = std::min(kSlice, weight.size(0) - begin);
    out.narrow(1, begin, count).copy_(at::linear(wide, weight.narrow(0, begin, count).to(at::kFloat)));
  }
  return out;
}

}  // namespace tte::kernels::cpu
