#include "kernels/cpu/linear.h"

#include <ATen/ATen.h>

#include <atomic>

#include "base/scratch.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/gemm.h"
#include "kernels/cpu/simd/host.h"
#include "kernels/tensors.h"

namespace tte::kernels::cpu {
namespace {

std::atomic<Products> chosen_products{Products::kByProcessor};

// Has the processor instructions for this type that oneDNN uses and our kernels do not: AMX, AVX512_FP16?
bool has_better_products(at::ScalarType type) {
  static const bool bfloat16 = simd::has_bfloat16_tiles(), half = simd::has_half_instructions();
  const Products products = chosen_products.load(std::memory_order_relaxed);
  if (products != Products::kByProcessor) return products == Products::kOneDnn && type != at::kFloat;
  return at::globalContext().userEnabledMkldnn() &&
         ((type == at::kBFloat16 && bfloat16) || (type == at::kHalf && half));
}

bool use_onednn(const at::Tensor& x, const at::Tensor& weight) {
  return is_large_product(x.size(0), x.size(1), weight.size(0)) && has_better_products(x.scalar_type());
}

at::Tensor multiply_by_onednn(const at::Tensor& x, const at::Tensor& weight,
                              const std::optional<at::Tensor>& bias) {
  const std::int64_t rows = x.size(0);
  at::Tensor out;
  for (std::int64_t begin = 0; begin < rows; begin += kMostRows) {
    const std::int64_t count = std::min(kMostRows, rows - begin), filled = filled_rows(count);
    at::Tensor part = x.narrow(0, begin, count);
    if (filled > count) {
      const at::Tensor copy = at::empty({filled, x.size(1)}, x.options());
      copy.narrow(0, 0, count).copy_(part);
      copy.narrow(0, count, filled - count).zero_();
      part = copy;
    }
    at::Tensor result = at::linear(part, weight, bias).narrow(0, 0, count);
    if (count == rows) return result;
    if (!out.defined()) out = at::empty({rows, weight.size(0)}, x.options());
    out.narrow(0, begin, count).copy_(result);
  }
  return out;
}

// Columns and rows of the result that one unit of work computes. More columns make a weight's block worth
// loading into the second-level cache, fewer let all threads finish together.
struct Split {
  std::int64_t columns, rows;
};
Split split(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kLeastColumns = 8;
  const std::int64_t most_rows = 256 / simd::pack_group() * simd::pack_group();
  const std::int64_t share = columns / (4 * at::get_num_threads()) / kLeastColumns * kLeastColumns;
  const std::int64_t most_columns = rows <= simd::pack_group() ? 192 : 48;
  return {std::clamp(share, kLeastColumns, most_columns), std::min(rows, most_rows)};
}

at::Tensor multiply(const at::Tensor& input, const at::Tensor& weight_tensor,
                    const std::optional<at::Tensor>& bias, at::ScalarType out_type) {
  const at::Tensor x = dense_rows(input), weight = dense_rows(weight_tensor);
  const std::int64_t rows = x.size(0), k = x.size(1), columns = weight.size(0);
  at::Tensor out = at::empty({rows, columns}, x.options().dtype(out_type));
  const Type type = type_of(x);
  const auto bytes = static_cast<std::int64_t>(simd::packed_bytes(type, rows, k));
  const at::Tensor packed = at::empty({bytes}, x.options().dtype(at::kByte));
  void* packed_x = packed.mutable_data_ptr();
  const std::int64_t group = simd::pack_group();
  // Packing a few rows takes less time than waking a thread.
  at::parallel_for(0, (rows + group - 1) / group, std::max<std::int64_t>(1, (1 << 17) / (group * k)),
                   [&](std::int64_t begin, std::int64_t end) {
                     simd::pack_rows(type, x.const_data_ptr(), x.stride(0), rows, k, begin * group,
                                     std::min(rows, end * group), packed_x);
                   });
  simd::Gemm gemm;
  gemm.type = type;
  gemm.rows = rows;
  gemm.k = k;
  gemm.x = packed_x;
  gemm.weight = weight.const_data_ptr();
  gemm.weight_stride = weight.stride(0);
  const at::Tensor bias_values = bias.has_value() ? bias->contiguous() : at::Tensor();
  gemm.bias = bias_values.defined() ? bias_values.const_data_ptr() : nullptr;
  gemm.out_type = out_type == at::kFloat ? Type::kFloat : type;
  gemm.out = out.mutable_data_ptr();
  gemm.out_stride = columns;
  const Split unit = split(rows, columns);
  const std::int64_t row_units = (rows + unit.rows - 1) / unit.rows;
  const std::int64_t column_units = (columns + unit.columns - 1) / unit.columns;
  for_units(row_units * column_units, [&](std::int64_t i) {
    const std::int64_t row = i % row_units * unit.rows, column = i / row_units * unit.columns;
    simd::gemm(gemm, row, std::min(rows, row + unit.rows), column, std::min(columns, column + unit.columns),
               base::scratch(static_cast<std::size_t>(unit.rows * unit.columns)));
  });
  return out;
}

}  // namespace

void choose_products(Products products) {
  chosen_products.store(products, std::memory_order_relaxed);
}

bool is_large_product(std::int64_t rows, std::int64_t k, std::int64_t columns) {
  constexpr std::int64_t kFewRows = 8;  // Fewer wait for the weight's memory.
  constexpr std::int64_t kSmallWeight = 1 << 19, kLittleWork = std::int64_t{9} << 20;
  return rows > kFewRows && k * columns >= kSmallWeight && rows * k * columns >= kLittleWork;
}

std::int64_t filled_rows(std::int64_t rows) {
  if (rows <= 16) return 16;
  const std::int64_t step = rows <= 32 ? 32 : rows <= 512 ? 64 : 256;
  return (rows + step - 1) / step * step;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  if (x.numel() == 0 || weight.numel() == 0) return at::linear(x, weight, bias);
  if (use_onednn(x, weight)) return multiply_by_onednn(x, weight, bias);
  return multiply(x, weight, bias, x.scalar_type());
}

at::Tensor linear_float(const at::Tensor& x, const at::Tensor& weight) {
  // ATen has no product of two-byte types with a float32 result.
  if (x.numel() == 0 || weight.numel() == 0) return at::linear(x, weight).to(at::kFloat);
  return multiply(x, weight, std::nullopt, at::kFloat);
}

}  // namespace tte::kernels::cpu
