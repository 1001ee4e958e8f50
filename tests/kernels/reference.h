// Plain float64 formulas that every kernel is compared with, and the tolerances of each type.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "base/linear_format.h"
#include "base/rounded_matrix.h"
#include "kernels/kernels.h"

namespace tte::kernels::reference {

// Random values of the given type: the reference sees exactly the values that the kernel sees.
at::Tensor random(at::IntArrayRef sizes, at::ScalarType type, std::uint64_t seed, double scale = 1.0);

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    NormScale scale = NormScale::kWeight);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);
at::Tensor silu_mul(const at::Tensor& gate_up);
at::Tensor activate(const at::Tensor& x, Activation activation);
at::Tensor gated(const at::Tensor& x, const at::Tensor& gate, Gate kind);
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

// One sequence: q [rows, heads, head_dim], k and v [length, kv_heads, head_dim]. With `causal`, row j sees
// the first length - rows + j + 1 tokens. Returns [rows, heads * head_dim].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal,
                     double scale);

// One sequence from its beginning.
at::Tensor causal_conv_silu(const at::Tensor& x, const at::Tensor& weight);
at::Tensor gated_delta_rule(const DeltaInputs& inputs);

// Queries, keys, values and gates of rows, and the rates of heads.
DeltaInputs random_delta_inputs(std::int64_t rows, std::int64_t key_heads, std::int64_t heads,
                                std::int64_t key_dim, std::int64_t value_dim, at::ScalarType type);
// Rows begin .. begin + count of them.
DeltaInputs rows_of(const DeltaInputs& inputs, std::int64_t begin, std::int64_t count);

// The numbers [outputs, inputs] that codes stand for.
at::Tensor numbers(const base::RoundedMatrix& matrix, base::LinearFormat format, std::int64_t inputs);

// The largest relative error of rounding to the type.
double rounding(at::ScalarType type);

// Empty if |actual - expected| <= tolerance * (|expected| + magnitude) everywhere and nothing is NaN, else
// what is wrong and where. `magnitude` is the size that rounding errors are relative to where terms cancel.
std::string difference(const at::Tensor& actual, const at::Tensor& expected, double tolerance,
                       double magnitude = 1.0);

// Sets the number of ATen threads for a scope.
class Threads {
 public:
  explicit Threads(int threads);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace tte::kernels::reference
