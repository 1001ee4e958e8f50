#include <ATen/ATen.h>
#include <sys/mman.h>

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/scratch.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/host.h"
#include "kernels/cpu/simd/panels.h"
#include "kernels/cpu/simd/quantized.h"
#include "kernels/cpu/simd/rows.h"
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

// Some rows of the result in the columns of a panel: what one unit of work computes.
struct Part {
  std::size_t begin, end, panel;
};

// Calls unit(part) for the parts of a product of `rows` rows and the weight's outputs. Units that follow each other
// read the same panel.
template <class Unit>
void for_parts(std::int64_t rows, const Weight& weight, const Unit& unit) {
  const std::int64_t first = weight.values().first / kPanel;
  const std::int64_t panels = panels_of(weight.values().first + weight.outputs()) - first;
  const std::int64_t row_units = (rows + kUnitRows - 1) / kUnitRows;
  for_units(panels * row_units, [&](std::int64_t i) {
    const std::int64_t row = i % row_units * kUnitRows;
    unit(Part{size(row), size(std::min(rows, row + kUnitRows)), size(first + i / row_units)});
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

// Rows times a packed weight, plus bias, computed part by part.
template <LinearFormat kFormat>
class Product {
 public:
  using Gemm = std::conditional_t<kFormat == LinearFormat::kPanels, simd::PanelGemm, simd::QuantizedGemm>;

  // The result has `columns` columns, of which the first are the weight's first outputs.
  Product(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias,
          std::int64_t columns, at::ScalarType out_type)
      : rows_(dense_rows(x)),
        bias_(bias ? bias->contiguous() : at::Tensor()),
        out_(at::empty({x.size(0), columns}, x.options().dtype(out_type))) {
    if (out_.numel() == 0) return;
    if constexpr (kFormat == LinearFormat::kPanels) {
      gemm_.is_widened = simd::panels_widen();
      if (gemm_.is_widened) rows_ = rows_.to(at::kFloat);
      gemm_.x_stride = size(rows_.stride(0));
      gemm_.panels = static_cast<const std::uint16_t*>(weight.values().data.const_data_ptr());
    } else {
      gemm_.bits = bits_of(kFormat);
      gemm_.rows = size(x.size(0));
      gemm_.type = type_of(x);
      rows_ = round_rows(gemm_.bits, rows_);
      gemm_.panels = static_cast<const std::uint8_t*>(weight.values().data.const_data_ptr());
    }
    gemm_.k = size(x.size(1));
    gemm_.x = rows_.const_data_ptr();
    gemm_.first = size(weight.values().first);
    gemm_.columns = size(columns);
    gemm_.bias = bias_.defined() ? bias_.const_data_ptr() : nullptr;
    gemm_.out_type = type_of(out_);
    gemm_.out = out_.mutable_data_ptr();
  }

  [[nodiscard]] const at::Tensor& out() const { return out_; }
  [[nodiscard]] bool is_empty() const { return out_.numel() == 0; }
  // Where out has row `row` of column `column`.
  [[nodiscard]] void* address(std::size_t row, std::size_t column) const {
    return static_cast<char*>(gemm_.out) + (row * gemm_.columns + column) * out_.element_size();
  }

  void compute(const Part& part, float* scratch) const { run(gemm_, part, scratch); }
  // The same of all outputs of a panel that is no column of out: into `strip`, [rows of the part, kPanel].
  void compute_beside(const Part& part, void* strip, float* scratch) const {
    Gemm gemm = gemm_;
    gemm.first = part.panel * kPanel;
    gemm.columns = kPanel;
    gemm.out = strip;
    gemm.out_row = part.begin;
    if (bias_.defined()) gemm.bias = at_element(bias_, std::int64_t(gemm.first - gemm_.first));
    run(gemm, part, scratch);
  }
  static std::size_t scratch_size(std::size_t rows) {
    return kFormat == LinearFormat::kPanels ? simd::panel_scratch(rows) : simd::quantized_scratch(rows);
  }

 private:
  static void run(const Gemm& gemm, const Part& part, float* scratch) {
    if constexpr (kFormat == LinearFormat::kPanels) {
      simd::panel_gemm(gemm, part.begin, part.end, part.panel, scratch);
    } else {
      simd::quantized_gemm(gemm, part.begin, part.end, part.panel, scratch);
    }
  }

  at::Tensor rows_, bias_, out_;
  Gemm gemm_;
};

template <LinearFormat kFormat>
at::Tensor multiply(const at::Tensor& x, const Weight& weight, const std::optional<at::Tensor>& bias,
                    at::ScalarType out_type) {
  const Product<kFormat> product(x, weight, bias, weight.outputs(), out_type);
  if (product.is_empty()) return product.out();
  for_parts(x.size(0), weight, [&](const Part& part) {
    product.compute(part, base::scratch(product.scratch_size(part.end - part.begin)));
  });
  return product.out();
}

// A part's results are in the first caches still when they are activated.
template <LinearFormat kFormat>
at::Tensor multiply_activated(const at::Tensor& x, const Weight& weight,
                              const std::optional<at::Tensor>& bias, Activation activation) {
  const Product<kFormat> product(x, weight, bias, weight.outputs(), x.scalar_type());
  if (product.is_empty()) return product.out();
  for_parts(x.size(0), weight, [&](const Part& part) {
    product.compute(part, base::scratch(product.scratch_size(part.end - part.begin)));
    const simd::PanelPart columns =
        simd::panel_part(part.panel, size(weight.values().first), size(weight.outputs()));
    for (std::size_t row = part.begin; row < part.end; ++row) {
      void* values = product.address(row, columns.column);
      simd::activate(type_of(x), activation, values, columns.end - columns.begin, values);
    }
  });
  return product.out();
}

// The gate's part goes where the result will be, up's beside it.
template <LinearFormat kFormat>
at::Tensor multiply_silu_mul(const at::Tensor& x, const Weight& gate_up,
                             const std::optional<at::Tensor>& bias) {
  const std::int64_t n = gate_up.outputs() / 2;
  if (n % kPanel != 0 || gate_up.values().first % kPanel != 0)
    return kernels::silu_mul(multiply<kFormat>(x, gate_up, bias, x.scalar_type()));
  const Product<kFormat> product(x, gate_up, bias, n, x.scalar_type());
  if (product.is_empty()) return product.out();
  for_parts(x.size(0), gate_up.part(0, n), [&](const Part& part) {
    const std::size_t rows = part.end - part.begin, used = product.scratch_size(rows);
    float* scratch = base::scratch(used + rows * kPanel);
    product.compute(part, scratch);
    auto* up = reinterpret_cast<char*>(scratch + used);
    product.compute_beside({part.begin, part.end, part.panel + size(n / kPanel)}, up, scratch);
    const std::size_t column = part.panel * kPanel - size(gate_up.values().first);
    for (std::size_t row = part.begin; row < part.end; ++row, up += kPanel * x.element_size()) {
      void* values = product.address(row, column);
      simd::silu_mul(type_of(x), values, up, kPanel, values);
    }
  });
  return product.out();
}

template <LinearFormat kFormat>
constexpr WeightFormat format() {
  WeightFormat functions = kPackedFormat<multiply<kFormat>>;
  functions.linear_activated = multiply_activated<kFormat>;
  functions.linear_silu_mul = multiply_silu_mul<kFormat>;
  return functions;
}
template <LinearFormat kFormat>
constexpr WeightFormat kFormatOf = format<kFormat>();

const WeightFormat& functions_of(LinearFormat format) {
  return format == LinearFormat::kPanels ? kFormatOf<LinearFormat::kPanels>
         : format == LinearFormat::kInt8 ? kFormatOf<LinearFormat::kInt8>
                                         : kFormatOf<LinearFormat::kInt4>;
}

// Bytes of an output's codes in a RoundedMatrix, and its factors.
std::int64_t stored_codes(Bits bits, std::int64_t inputs) {
  return bits == Bits::kEight ? inputs : (inputs + 7) / 8 * 4;
}
std::int64_t factors_of(Bits bits, std::int64_t inputs) {
  return bits == Bits::kEight
             ? 0
             : static_cast<std::int64_t>(simd::groups_of(size(inputs)) * simd::kFactorsOfGroup);
}

// An output of a weight of few bits, on its way between numbers, files and panels.
struct Output {
  Output(Bits bits_in, std::int64_t inputs)
      : bits(bits_in),
        k(size(inputs)),
        codes(simd::filled_inputs(bits, k), static_cast<std::uint8_t>(simd::code_offset(bits))),
        scales(simd::scales_of(bits, k)),
        factors(size(factors_of(bits, inputs))) {}

  [[nodiscard]] simd::RoundedOutput rounded() { return {codes.data(), scales.data(), factors.data()}; }

  // To and from a row of a RoundedMatrix.
  void store(base::RoundedMatrix& to, std::int64_t row) const {
    const std::int64_t bytes = to.codes.size(1);
    auto* out = static_cast<std::uint8_t*>(to.codes.mutable_data_ptr()) + row * bytes;
    for (std::size_t i = 0; i < size(bytes); ++i) {
      out[i] = bits == Bits::kEight ? codes[i] ^ kSign
                                    : static_cast<std::uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
    }
    std::ranges::copy(scales, to.scales.mutable_data_ptr<float>() + row * std::ssize(scales));
    if (bits == Bits::kFour)
      std::ranges::copy(factors, to.factors.mutable_data_ptr<std::int8_t>() + row * std::ssize(factors));
  }
  void load(const base::RoundedMatrix& from, std::int64_t row) {
    const auto* in = static_cast<const std::uint8_t*>(from.codes.const_data_ptr()) + row * from.codes.size(1);
    std::copy_n(from.scales.const_data_ptr<float>() + row * std::ssize(scales), scales.size(),
                scales.begin());
    if (bits == Bits::kEight) {
      for (std::size_t i = 0; i < k; ++i) codes[i] = in[i] ^ kSign;
      return;
    }
    std::copy_n(from.factors.const_data_ptr<std::int8_t>() + row * std::ssize(factors), factors.size(),
                factors.begin());
    for (std::size_t i = 0; i + 1 < k; i += 2) {
      codes[i] = in[i / 2] & 0xF;
      codes[i + 1] = in[i / 2] >> 4;
    }
    if (k % 2 != 0) codes[k - 1] = in[k / 2] & 0xF;
  }

  static constexpr std::uint8_t kSign = 0x80;  // What 128 in an unsigned byte is to a signed one.
  Bits bits;
  std::size_t k;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::int8_t> factors;
};

// Has the system give these bytes their pages now: at half the price of one fault for each. What is there stays.
void give_pages(void* memory, std::size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  constexpr std::uintptr_t kPage = 4096;
  const std::uintptr_t before =
      reinterpret_cast<std::uintptr_t>(memory) % kPage;  // In the page where they begin.
  // A system that cannot (Linux before 5.14) gives them as they are written to.
  ::madvise(static_cast<std::uint8_t*>(memory) - before, before + bytes, MADV_POPULATE_WRITE);
#endif
}

// Panels of a weight, of which fill(first output, outputs, panel) makes each.
template <class Fill>
at::Tensor pack_panels(LinearFormat format, std::int64_t outputs, std::int64_t inputs, const Fill& fill) {
  const std::int64_t panels = panels_of(outputs);
  const std::size_t bytes = panel_bytes(format, inputs);
  at::Tensor packed = at::empty({panels, static_cast<std::int64_t>(bytes)}, at::TensorOptions(at::kByte));
  auto* memory = static_cast<std::uint8_t*>(packed.mutable_data_ptr());
  for_units(panels, [&](std::int64_t i) {
    const std::int64_t count = std::min(kPanel, outputs - i * kPanel);
    std::uint8_t* to = memory + size(i) * bytes;
    give_pages(to, bytes);
    if (count < kPanel) std::fill_n(to, bytes, std::uint8_t{0});
    fill(i * kPanel, count, to);
  });
  return packed;
}

}  // namespace

bool is_packed(LinearFormat format, std::int64_t outputs, std::int64_t inputs, at::ScalarType dtype) {
  if (format == LinearFormat::kPlain || std::min(outputs, inputs) < kPanel) return false;
  if (base::is_rounded(format)) return true;
  return dtype == at::kBFloat16 && inputs % 2 == 0 && simd::has_bfloat16_instructions() &&
         !simd::has_bfloat16_tiles();
}

base::RoundedMatrix round(const at::Tensor& given, LinearFormat format) {
  const at::Tensor matrix = dense_rows(given);
  const std::int64_t outputs = matrix.size(0), inputs = matrix.size(1);
  const Bits bits = bits_of(format);
  const auto options = matrix.options();
  base::RoundedMatrix out;
  out.codes = at::empty({outputs, stored_codes(bits, inputs)},
                        options.dtype(bits == Bits::kEight ? at::kChar : at::kByte));
  out.scales = at::empty({outputs, static_cast<std::int64_t>(simd::scales_of(bits, size(inputs)))},
                         options.dtype(at::kFloat));
  if (bits == Bits::kFour)
    out.factors = at::empty({outputs, factors_of(bits, inputs)}, options.dtype(at::kChar));
  for_units(panels_of(outputs), [&](std::int64_t panel) {
    Output output(bits, inputs);
    for (std::int64_t i = panel * kPanel; i < std::min((panel + 1) * kPanel, outputs); ++i) {
      simd::round_output(bits, type_of(matrix), at_element(matrix, i * matrix.stride(0)), output.k,
                         output.rounded());
      output.store(out, i);
    }
  });
  return out;
}

namespace cpu {

at::Tensor pack_matrix(const at::Tensor& given, LinearFormat format) {
  const at::Tensor matrix = dense_rows(given);
  const std::int64_t inputs = matrix.size(1);
  TORCH_CHECK(format != LinearFormat::kPanels || (matrix.scalar_type() == at::kBFloat16 && inputs % 2 == 0),
              "panels are of bfloat16 and an even number of inputs");
  const auto fill = [&](std::int64_t first, std::int64_t count, std::uint8_t* panel) {
    const std::int64_t stride = matrix.stride(0);
    if (format == LinearFormat::kPanels) {
      simd::pack_pair_panel(static_cast<const std::uint16_t*>(at_element(matrix, first * stride)),
                            size(stride), size(count), size(inputs), reinterpret_cast<std::uint16_t*>(panel));
      return;
    }
    Output output(bits_of(format), inputs);
    for (std::int64_t i = 0; i < count; ++i) {
      simd::round_output(output.bits, type_of(matrix), at_element(matrix, (first + i) * stride), output.k,
                         output.rounded());
      simd::place_output(output.bits, output.rounded(), output.k, size(i), panel);
    }
  };
  return pack_panels(format, matrix.size(0), inputs, fill);
}

at::Tensor pack_rounded(const std::vector<base::RoundedMatrix>& parts, std::int64_t inputs,
                        LinearFormat format) {
  const Bits bits = bits_of(format);
  std::vector<std::pair<const base::RoundedMatrix*, std::int64_t>> outputs;
  for (const base::RoundedMatrix& part : parts) {
    for (std::int64_t i = 0; i < part.codes.size(0); ++i) outputs.emplace_back(&part, i);
  }
  const auto fill = [&](std::int64_t first, std::int64_t count, std::uint8_t* panel) {
    Output output(bits, inputs);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto& [part, row] = outputs[size(first + i)];
      output.load(*part, row);
      simd::place_output(bits, output.rounded(), output.k, size(i), panel);
    }
  };
  return pack_panels(format, std::ssize(outputs), inputs, fill);
}

Weight packed_weight(at::Tensor packed, LinearFormat format, std::int64_t outputs, std::int64_t inputs,
                     at::ScalarType dtype) {
  const auto bytes = static_cast<std::int64_t>(panel_bytes(format, inputs));
  TORCH_CHECK(packed.sizes() == at::IntArrayRef({panels_of(outputs), bytes}), "bytes ", packed.sizes(),
              " are not those of a weight [", outputs, ", ", inputs, "]");
  const at::Device device = packed.device();
  return {functions_of(format), {std::move(packed)}, outputs, inputs, dtype, device};
}

}  // namespace cpu

}  // namespace tte::kernels
