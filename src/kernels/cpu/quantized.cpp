#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/quantized.h"
#include "kernels/cpu/tensors.h"
#include "kernels/quantized_weight.h"

namespace tte::kernels {
namespace {

using cpu::dense_rows;
using cpu::for_units;
using cpu::type_of;
using simd::Bits;

constexpr std::int64_t kPanel = simd::kPanelOutputs;
// Rows of the result that one unit of work computes.
constexpr std::int64_t kUnitRows = 240;

std::size_t size(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

std::int64_t panels_of(std::int64_t outputs) {
  return (outputs + kPanel - 1) / kPanel;
}

at::Tensor round_rows(Bits bits, const at::Tensor& x) {
  const std::int64_t rows = x.size(0), k = x.size(1);
  at::Tensor rounded = at::empty({static_cast<std::int64_t>(simd::rounded_bytes(bits, size(rows), size(k)))},
                                 x.options().dtype(at::kByte));
  void* memory = rounded.mutable_data_ptr();
  // Rounding a few rows takes less time than waking a thread.
  constexpr std::int64_t kValuesPerThread = 1 << 15;
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kValuesPerThread / k),
                   [&](std::int64_t begin, std::int64_t end) {
                     simd::round_rows(bits, type_of(x), x.const_data_ptr(), size(x.stride(0)), size(rows),
                                      size(k), size(begin), size(end), memory);
                   });
  return rounded;
}

at::Tensor multiply(Bits bits, const at::Tensor& input, const Weight& weight,
                    const std::optional<at::Tensor>& bias, at::ScalarType out_type) {
  const at::Tensor x = dense_rows(input);
  const std::int64_t rows = x.size(0), columns = weight.outputs();
  at::Tensor out = at::empty({rows, columns}, x.options().dtype(out_type));
  if (out.numel() == 0) return out;
  const at::Tensor rounded = round_rows(bits, x), bias_values = bias ? bias->contiguous() : at::Tensor();
  simd::QuantizedGemm gemm;
  gemm.bits = bits;
  gemm.rows = size(rows);
  gemm.k = size(x.size(1));
  gemm.x = rounded.const_data_ptr();
  gemm.panels = static_cast<const std::uint8_t*>(weight.values().data.const_data_ptr());
  gemm.first = size(weight.values().first);
  gemm.columns = size(columns);
  gemm.type = type_of(x);
  gemm.bias = bias_values.defined() ? bias_values.const_data_ptr() : nullptr;
  gemm.out_type = out_type == at::kFloat ? simd::Type::kFloat : gemm.type;
  gemm.out = out.mutable_data_ptr();
  const std::int64_t first = weight.values().first / kPanel;
  const std::int64_t panels = panels_of(weight.values().first + columns) - first;
  const std::int64_t row_units = (rows + kUnitRows - 1) / kUnitRows;
  for_units(panels * row_units, [&](std::int64_t i) {
    // Units that follow each other read the same panel.
    const std::int64_t row = i % row_units * kUnitRows;
    simd::quantized_gemm(gemm, size(row), size(std::min(rows, row + kUnitRows)), size(first + i / row_units));
  });
  return out;
}

template <Bits kBits>
at::Tensor linear(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
  return multiply(kBits, x, weight, bias, x.scalar_type());
}

template <Bits kBits>
at::Tensor linear_float(const at::Tensor& x, const Weight& weight) {
  return multiply(kBits, x, weight, std::nullopt, at::kFloat);
}

Weight part(const Weight& weight, std::int64_t begin, std::int64_t count) {
  Weight::Values values = weight.values();
  values.first += begin;
  return {weight.format(), std::move(values), count, weight.inputs(), weight.dtype(), weight.device()};
}

constexpr WeightFormat kInt8{
    .linear = linear<Bits::kEight>, .linear_float = linear_float<Bits::kEight>, .part = part};
constexpr WeightFormat kInt4{
    .linear = linear<Bits::kFour>, .linear_float = linear_float<Bits::kFour>, .part = part};

Bits bits_of(base::LinearFormat format) {
  TORCH_CHECK(format != base::LinearFormat::kPlain, "a plain weight is not quantized");
  return format == base::LinearFormat::kInt8 ? Bits::kEight : Bits::kFour;
}

}  // namespace

at::Tensor quantize(const at::Tensor& given, base::LinearFormat format) {
  const Bits bits = bits_of(format);
  const at::Tensor matrix = dense_rows(given);
  const std::int64_t outputs = matrix.size(0), panels = panels_of(outputs);
  const std::size_t k = size(matrix.size(1)), bytes = simd::panel_bytes(bits, k);
  at::Tensor packed =
      at::zeros({panels, static_cast<std::int64_t>(bytes)}, matrix.options().dtype(at::kByte));
  auto* memory = static_cast<std::uint8_t*>(packed.mutable_data_ptr());
  for_units(panels, [&](std::int64_t i) {
    simd::pack_panel(bits, type_of(matrix), cpu::at_element(matrix, i * kPanel * matrix.stride(0)),
                     size(matrix.stride(0)), size(std::min(kPanel, outputs - i * kPanel)), k,
                     memory + size(i) * bytes);
  });
  return packed;
}

Weight quantized_weight(at::Tensor packed, base::LinearFormat format, std::int64_t outputs,
                        std::int64_t inputs, at::ScalarType dtype) {
  const auto bytes = static_cast<std::int64_t>(simd::panel_bytes(bits_of(format), size(inputs)));
  TORCH_CHECK(packed.sizes() == at::IntArrayRef({panels_of(outputs), bytes}), "bytes ", packed.sizes(),
              " are not those of a weight [", outputs, ", ", inputs, "]");
  const at::Device device = packed.device();
  return {format == base::LinearFormat::kInt8 ? kInt8 : kInt4,
          {std::move(packed)},
          outputs,
          inputs,
          dtype,
          device};
}

}  // namespace tte::kernels
