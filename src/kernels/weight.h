// Matrices of a model, in whatever format their numbers are kept. Only kernels/ looks into them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace tte::kernels {

class Weight;

// How the numbers of a weight are kept and multiplied with: a constant for each format. The functions do what
// kernels::linear and linear_float say; arguments were checked.
struct WeightFormat {
  at::Tensor (*linear)(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias);
  at::Tensor (*linear_float)(const at::Tensor& x, const Weight& weight);
  // The part that computes outputs begin .. begin + count, sharing memory.
  Weight (*part)(const Weight& weight, std::int64_t begin, std::int64_t count);
};

// A matrix [outputs, inputs] that x [rows, inputs] is multiplied with.
class Weight {
 public:
  // What formats keep: only they know what it means.
  struct Values {
    at::Tensor data;
    std::int64_t first = 0;  // Of the outputs in `data`, for parts that are not views.
  };

  // The plain format: float32, bfloat16 or float16 [outputs, inputs], shared.
  Weight(at::Tensor matrix);  // NOLINT(google-explicit-constructor): a matrix is a weight.
  // `dtype` and `device` are those of x and of results.
  Weight(const WeightFormat& format, Values values, std::int64_t outputs, std::int64_t inputs,
         at::ScalarType dtype, at::Device device);

  [[nodiscard]] std::int64_t outputs() const { return outputs_; }
  [[nodiscard]] std::int64_t inputs() const { return inputs_; }
  [[nodiscard]] at::ScalarType dtype() const { return dtype_; }
  [[nodiscard]] at::Device device() const { return device_; }
  [[nodiscard]] Weight part(std::int64_t begin, std::int64_t count) const;

  // For kernels/ and formats.
  [[nodiscard]] const WeightFormat& format() const { return *format_; }
  [[nodiscard]] const Values& values() const { return values_; }

 private:
  const WeightFormat* format_;
  Values values_;
  std::int64_t outputs_, inputs_;
  at::ScalarType dtype_;
  at::Device device_;
};

}  // namespace tte::kernels
