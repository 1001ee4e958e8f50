// Hands what is packed to its device's table.
#include "kernels/packed_weight.h"

#include <ATen/ATen.h>

#include <utility>

#include "kernels/table.h"

namespace tte::kernels {
namespace {

using base::LinearFormat;

std::int64_t parts_of(std::int64_t inputs, std::int64_t size) {
  return (inputs + size - 1) / size;
}

void check_fits(const base::RoundedMatrix& matrix, std::int64_t inputs, LinearFormat format) {
  const bool four = format == LinearFormat::kInt4;
  const std::int64_t outputs = matrix.codes.size(0), groups = parts_of(inputs, base::kInt4Group);
  const auto fits = [outputs](const at::Tensor& tensor, at::ScalarType type, std::int64_t columns) {
    return tensor.defined() && tensor.is_cpu() && tensor.scalar_type() == type && tensor.is_contiguous() &&
           tensor.sizes() == at::IntArrayRef({outputs, columns});
  };
  // Codes of 4 bits fill 32-bit words.
  const bool codes_fit =
      four ? fits(matrix.codes, at::kByte, parts_of(inputs, 8) * 4) : fits(matrix.codes, at::kChar, inputs);
  constexpr std::int64_t kFactorsOfGroup = base::kInt4Group / base::kInt4Block;
  TORCH_CHECK(codes_fit && fits(matrix.scales, at::kFloat, four ? groups : 1) &&
                  (!four || fits(matrix.factors, at::kChar, groups * kFactorsOfGroup)),
              "codes ", matrix.codes.sizes(), " and scales ", matrix.scales.sizes(),
              " are not those of a weight of ", inputs, " inputs");
}

}  // namespace

at::Tensor pack(const at::Tensor& matrix, LinearFormat format, at::Device device) {
  const KernelTable& table = table_of(device);
  if (table.pack_matrix != nullptr) return table.pack_matrix(matrix, format).to(device);
  return pack({round(matrix.to(at::kCPU), format)}, matrix.size(1), format, device);
}

at::Tensor pack(const std::vector<base::RoundedMatrix>& parts, std::int64_t inputs, LinearFormat format,
                at::Device device) {
  TORCH_CHECK(base::is_rounded(format), "only int8 and int4 are packed of rounded matrices");
  for (const base::RoundedMatrix& part : parts) check_fits(part, inputs, format);
  return table_of(device).pack_rounded(parts, inputs, format).to(device);
}

Weight packed_weight(at::Tensor packed, LinearFormat format, std::int64_t outputs, std::int64_t inputs,
                     at::ScalarType dtype) {
  const KernelTable& table = table_of(packed.device());
  return table.packed_weight(std::move(packed), format, outputs, inputs, dtype);
}

}  // namespace tte::kernels
