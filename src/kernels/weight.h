// Matrices of a model, in whatever format their numbers are kept. Only kernels/ looks into them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>

namespace tte::kernels {

class Weight;

enum class Activation { kQuickGelu, kGelu, kGeluTanh, kSilu };

// A format says how a weight keeps its numbers and how x is multiplied with them; each format is one constant. The
// functions do what kernels::linear and linear_float say, which have checked the arguments.
struct WeightFormat {
  at::Tensor (*linear)(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias);
  at::Tensor (*linear_float)(const at::Tensor& x, const Weight& weight);
  // kernels::linear_activated and linear_silu_mul. Null: one after the other.
  at::Tensor (*linear_activated)(const at::Tensor& x, const Weight& weight,
                                 const std::optional<at::Tensor>& bias, Activation activation) = nullptr;
  at::Tensor (*linear_silu_mul)(const at::Tensor& x, const Weight& gate_up,
                                const std::optional<at::Tensor>& bias) = nullptr;
  // The weight of outputs begin .. begin + count, which shares memory with all of it.
  Weight (*part)(const Weight& weight, std::int64_t begin, std::int64_t count);
};

// A matrix [outputs, inputs] that x [rows, inputs] is multiplied with.
class Weight {
 public:
  // The numbers, in a layout that only the format knows.
  struct Values {
    at::Tensor data;
    std::int64_t first = 0;  // The first output in `data` that belongs to the weight.
  };

  // The plain format: float32, bfloat16 or float16 [outputs, inputs], shared.
  Weight(at::Tensor matrix);  // NOLINT(google-explicit-constructor): a matrix is a weight.
  // x and results have this `dtype` and are on this `device`.
  Weight(const WeightFormat& format, Values values, std::int64_t outputs, std::int64_t inputs,
         at::ScalarType dtype, at::Device device)  // Here, for libtte_cuda.so, which links nothing of ours.
      : format_(&format),
        values_(std::move(values)),
        outputs_(outputs),
        inputs_(inputs),
        dtype_(dtype),
        device_(device) {}

  [[nodiscard]] std::int64_t outputs() const { return outputs_; }
  [[nodiscard]] std::int64_t inputs() const { return inputs_; }
  [[nodiscard]] at::ScalarType dtype() const { return dtype_; }
  [[nodiscard]] at::Device device() const { return device_; }
  [[nodiscard]] Weight part(std::int64_t begin, std::int64_t count) const;

  // Only kernels/ and the formats call these.
  [[nodiscard]] const WeightFormat& format() const { return *format_; }
  [[nodiscard]] const Values& values() const { return values_; }

 private:
  const WeightFormat* format_;
  Values values_;
  std::int64_t outputs_, inputs_;
  at::ScalarType dtype_;
  at::Device device_;
};

// The functions of a format whose data are bytes of output after output: a part is some of them. `kMultiply` gives x
// times the weight, plus bias where there is one, in a dtype. A template, for libtte_cuda.so links nothing of ours.
template <at::Tensor (*kMultiply)(const at::Tensor& x, const Weight& weight,
                                  const std::optional<at::Tensor>& bias, at::ScalarType out_type)>
inline constexpr WeightFormat kPackedFormat{
    .linear =
        [](const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
          return kMultiply(x, weight, bias, x.scalar_type());
        },
    .linear_float = [](const at::Tensor& x,
                       const Weight& weight) { return kMultiply(x, weight, std::nullopt, at::kFloat); },
    .part = [](const Weight& weight, std::int64_t begin, std::int64_t count) -> Weight {
      Weight::Values values = weight.values();
      values.first += begin;
      return {weight.format(), std::move(values), count, weight.inputs(), weight.dtype(), weight.device()};
    }};

}  // namespace tte::kernels
