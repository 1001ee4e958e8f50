#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/host.h"
#include "kernels/cpu/simd/panels.h"
#include "kernels/cpu/simd/quantized.h"
#include "kernels/packed_weight.h"
#include "kernels/tensors.h"

namespace tte::kernels {
namespace {

using base::LinearFormat;
using cpu::for_units;
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

Bits bits_of(LinearFormat format) {
  return format == LinearFormat::kInt8 ? Bits::kEight : Bits::kFour;
}

std::size_t panel_bytes(LinearFormat format, std::int64_t inputs) {
  TORCH_CHECK(format != LinearFormat::kPlain, "a plain weight is not packed");
  return format == LinearFormat::kPanels ? simd::pair_panel_bytes(size(inputs))
                                         : simd::panel_bytes(bits_of(format), size(inputs));
}

// Calls unit(row_begin, row_end, panel) for the parts of a product of `rows` rows and the weight's outputs. Units that
// follow each other read the same panel.
template <class Unit>
void for_parts(std::int64_t rows, const Weight& weight, const Unit& unit) {
  const std::int64_t first = weight.values().first / kPanel;
  const std::int64_t panels = panels_of(weight.values().first + weight.outputs()) - first;
  const std::int64_t row_units = (rows + kUnitRows - 1) / kUnitRows;
  for_units(panels * row_units, [&](std::int64_t i) {
    const std::int64_t row = i % row_units * kUnitRows;
    unit(size(row), size(std::min(rows, row + kUnitRows)), size(first + i / row_units));
  });
}

at::Tensor round_rows(Bits bits, const at::Tensor& x) {
  const std::int64_t rows = x.size(0), k = x.size(1);
  at::Tensor rounded = at::empty({static_cast<std::int64_t>(simd::rounded_bytes(bits, size(rows), size(k)))},
                                 x.options().dtype(at::kByte));
  void* memory = rounded.mutable_data_ptr();
  const simd::RowsToRound given{type_of(x), x.const_data_ptr(), size(x.stride(0)), size(rows), size(k)};
  // Rounding a few rows takes less time than waking a thread.
  constexpr std::int64_t kValuesPerThread = 1 << 15;
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kValuesPerThread / k),
                   [&](std::int64_t begin, std::int64_t end) {
                     simd::round_rows(bits, given, size(begin), size(end), memory);
                   });
  return rounded;
}

void multiply_rounded(Bits bits, const at::Tensor& x, const Weight& weight, const at::Tensor& bias,
                      at::Tensor& out) {
  const at::Tensor rounded = round_rows(bits, x);
  simd::QuantizedGemm gemm;
  gemm.bits = bits;
  gemm.rows = size(x.size(0));
  gemm.k = size(x.size(1));
  gemm.x = rounded.const_data_ptr();
  gemm.panels = static_cast<const std::uint8_t*>(weight.values().data.const_data_ptr());
  gemm.first = size(weight.values().first);
  gemm.columns = size(weight.outputs());
  gemm.type = type_of(x);
  gemm.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  gemm.out_type = type_of(out);
  gemm.out = out.mutable_data_ptr();
  for_parts(x.size(0), weight, [&](std::size_t row_begin, std::size_t row_end, std::size_t panel) {
    simd::quantized_gemm(gemm, row_begin, row_end, panel,
                         cpu::scratch(simd::quantized_scratch(row_end - row_begin)));
  });
}

void multiply_pairs(const at::Tensor& x, const Weight& weight, const at::Tensor& bias, at::Tensor& out) {
  simd::PanelGemm gemm;
  gemm.k = size(x.size(1));
  gemm.x = static_cast<const std::uint16_t*>(x.const_data_ptr());
  gemm.x_stride = size(x.stride(0));
  gemm.panels = static_cast<const std::uint16_t*>(weight.values().data.const_data_ptr());
  gemm.first = size(weight.values().first);
  gemm.columns = size(weight.outputs());
  gemm.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  gemm.out_type = type_of(out);
  gemm.out = out.mutable_data_ptr();
  for_parts(x.size(0), weight, [&](std::size_t row_begin, std::size_t row_end, std::size_t panel) {
    simd::panel_gemm(gemm, row_begin, row_end, panel,
                     cpu::scratch((row_end - row_begin) * simd::kPanelOutputs));
  });
}

template <LinearFormat kFormat>
at::Tensor multiply(const at::Tensor& input, const Weight& weight,
                    const std::optional<at::Tensor>& given_bias, at::ScalarType out_type) {
  const at::Tensor x = dense_rows(input), bias = given_bias ? given_bias->contiguous() : at::Tensor();
  at::Tensor out = at::empty({x.size(0), weight.outputs()}, x.options().dtype(out_type));
  if (out.numel() == 0) return out;
  if constexpr (kFormat == LinearFormat::kPanels) {
    multiply_pairs(x, weight, bias, out);
  } else {
    multiply_rounded(bits_of(kFormat), x, weight, bias, out);
  }
  return out;
}

template <LinearFormat kFormat>
at::Tensor linear(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias) {
  return multiply<kFormat>(x, weight, bias, x.scalar_type());
}

template <LinearFormat kFormat>
at::Tensor linear_float(const at::Tensor& x, const Weight& weight) {
  return multiply<kFormat>(x, weight, std::nullopt, at::kFloat);
}

Weight part(const Weight& weight, std::int64_t begin, std::int64_t count) {
  Weight::Values values = weight.values();
  values.first += begin;
  return {weight.format(), std::move(values), count, weight.inputs(), weight.dtype(), weight.device()};
}

template <LinearFormat kFormat>
constexpr WeightFormat kFunctions{
    .linear = linear<kFormat>, .linear_float = linear_float<kFormat>, .part = part};

const WeightFormat& functions_of(LinearFormat format) {
  return format == LinearFormat::kPanels ? kFunctions<LinearFormat::kPanels>
         : format == LinearFormat::kInt8 ? kFunctions<LinearFormat::kInt8>
                                         : kFunctions<LinearFormat::kInt4>;
}

}  // namespace

bool is_packed(LinearFormat format, std::int64_t outputs, std::int64_t inputs, at::ScalarType dtype) {
  if (format == LinearFormat::kPlain || std::min(outputs, inputs) < kPanel) return false;
  if (base::is_rounded(format)) return true;
  return dtype == at::kBFloat16 && inputs % 2 == 0 && simd::has_bfloat16_instructions() &&
         !simd::has_bfloat16_tiles();
}

at::Tensor pack(const at::Tensor& given, LinearFormat format) {
  const at::Tensor matrix = dense_rows(given);
  const std::int64_t outputs = matrix.size(0), panels = panels_of(outputs);
  const std::size_t k = size(matrix.size(1)), stride = size(matrix.stride(0));
  const std::size_t bytes = panel_bytes(format, matrix.size(1));
  TORCH_CHECK(format != LinearFormat::kPanels || (matrix.scalar_type() == at::kBFloat16 && k % 2 == 0),
              "panels are of bfloat16 and an even number of inputs");
  at::Tensor packed =
      at::empty({panels, static_cast<std::int64_t>(bytes)}, matrix.options().dtype(at::kByte));
  auto* memory = static_cast<std::uint8_t*>(packed.mutable_data_ptr());
  for_units(panels, [&](std::int64_t i) {
    const std::size_t rows = size(std::min(kPanel, outputs - i * kPanel));
    const void* from = at_element(matrix, i * kPanel * matrix.stride(0));
    std::uint8_t* to = memory + size(i) * bytes;
    if (rows < simd::kPanelOutputs) std::fill_n(to, bytes, std::uint8_t{0});
    if (format == LinearFormat::kPanels) {
      simd::pack_pair_panel(static_cast<const std::uint16_t*>(from), stride, rows, k,
                            reinterpret_cast<std::uint16_t*>(to));
    } else {
      simd::pack_panel(bits_of(format), type_of(matrix), from, stride, rows, k, to);
    }
  });
  return packed;
}

Weight packed_weight(at::Tensor packed, LinearFormat format, std::int64_t outputs, std::int64_t inputs,
                     at::ScalarType dtype) {
  const auto bytes = static_cast<std::int64_t>(panel_bytes(format, inputs));
  TORCH_CHECK(packed.sizes() == at::IntArrayRef({panels_of(outputs), bytes}), "bytes ", packed.sizes(),
              " are not those of a weight [", outputs, ", ", inputs, "]");
  const at::Device device = packed.device();
  return {functions_of(format), {std::move(packed)}, outputs, inputs, dtype, device};
}

}  // namespace tte::kernels
