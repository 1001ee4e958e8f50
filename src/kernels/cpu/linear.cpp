#include <ATen/ATen.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd/gemm.h"
#include "kernels/cpu/simd/host.h"
#include "kernels/cpu/tensors.h"

namespace tte::kernels::cpu {
namespace {

// Has the processor instructions for this type that oneDNN uses and our kernels do not: AMX, AVX512_FP16?
bool has_better_products(at::ScalarType type) {
  static const bool bfloat16 = simd::has_bfloat16_tiles(), half = simd::has_half_instructions();
  return at::globalContext().userEnabledMkldnn() &&
         ((type == at::kBFloat16 && bfloat16) || (type == at::kHalf && half));
}

// Then they are worth more than rows that do not depend on their number, from as many rows and as large
// weights on as give them work.
constexpr std::int64_t kFewRows = 8;
constexpr std::int64_t kSmallWeight = 1 << 20;

bool use_aten(const at::Tensor& x, const at::Tensor& weight) {
  if (x.size(0) == 0 || x.size(1) == 0 || weight.size(0) == 0) return true;
  return x.size(0) > kFewRows && weight.numel() >= kSmallWeight && has_better_products(x.scalar_type());
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
  const simd::Type type = type_of(x);
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
  gemm.out_type = out_type == at::kFloat ? simd::Type::kFloat : type;
  gemm.out = out.mutable_data_ptr();
  gemm.out_stride = columns;
  const Split unit = split(rows, columns);
  const std::int64_t row_units = (rows + unit.rows - 1) / unit.rows;
  const std::int64_t column_units = (columns + unit.columns - 1) / unit.columns;
  for_units(row_units * column_units, [&](std::int64_t i) {
    const std::int64_t row = i % row_units * unit.rows, column = i / row_units * unit.columns;
    simd::gemm(gemm, row, std::min(rows, row + unit.rows), column, std::min(columns, column + unit.columns),
               scratch(static_cast<std::size_t>(unit.rows * unit.columns)));
  });
  return out;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  if (use_aten(x, weight)) return at::linear(x, weight, bias);
  return multiply(x, weight, bias, x.scalar_type());
}

at::Tensor linear_float(const at::Tensor& x, const at::Tensor& weight) {
  // ATen has no product of two-byte types with a float32 result.
  if (x.numel() == 0 || weight.numel() == 0) return at::linear(x, weight).to(at::kFloat);
  return multiply(x, weight, std::nullopt, at::kFloat);
}

}  // namespace tte::kernels::cpu
