// Weights of few bits on CUDA: their layout, and products. Rows of x are not rounded.
#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/quantized.h"

namespace tte::kernels::cuda {
namespace {

using base::LinearFormat;

// Numbers that a weight becomes at a time: what cuBLAS reads is still in the GPU's cache.
constexpr std::int64_t kNumbersAtOnce = 1 << 24;

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

// Where the parts of an output lie in its record, in bytes. Zeros fill it up.
struct Layout {
  Layout(LinearFormat format, std::int64_t inputs) : four_bits(format == LinearFormat::kInt4) {
    TORCH_CHECK(base::is_rounded(format), "CUDA has weights of 8 and 4 bits, and plain ones");
    TORCH_CHECK(inputs < std::int64_t{1} << 30, "a weight of ", inputs, " inputs is too wide");
    filled = round_up(inputs, kInputsAtOnce);
    scales = round_up(four_bits ? filled / 2 : filled, 16);
    const std::int64_t groups = four_bits ? round_up(inputs, base::kInt4Group) / base::kInt4Group : 1;
    factors = scales + groups * static_cast<std::int64_t>(sizeof(float));
    constexpr std::int64_t kFactorsOfGroup = base::kInt4Group / base::kInt4Block;
    bytes = round_up(factors + (four_bits ? groups * kFactorsOfGroup : 0), 32);  // A GPU reads 32 at a time.
  }
  bool four_bits;
  std::int64_t filled = 0;  // Inputs.
  std::int64_t scales = 0, factors = 0, bytes = 0;
};

Outputs outputs_of(LinearFormat format, const Weight& weight) {
  const Layout layout(format, weight.inputs());
  Outputs outputs;
  outputs.records = at_element(weight.values().data, weight.values().first * layout.bytes);
  outputs.count = weight.outputs();
  outputs.inputs = layout.filled;
  outputs.record_bytes = layout.bytes;
  outputs.scales = layout.scales;
  outputs.factors = layout.factors;
  outputs.four_bits = layout.four_bits;
  return outputs;
}

// x with rows of `inputs` values, the last ones zeros, which begin at multiples of 16 bytes.
at::Tensor filled_rows(const at::Tensor& x, std::int64_t inputs) {
  const std::int64_t size = x.element_size();
  const bool whole =
      x.size(1) == inputs && x.stride(1) == 1 && (x.size(0) <= 1 || x.stride(0) * size % 16 == 0);
  if (whole && reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 16 == 0) return x;
  at::Tensor filled = at::zeros({x.size(0), inputs}, x.options());
  filled.narrow(1, 0, x.size(1)).copy_(x);
  return filled;
}

void multiply_few(const Outputs& weight, const at::Tensor& x, const std::optional<at::Tensor>& given_bias,
                  at::Tensor& out) {
  const at::Tensor bias = given_bias ? given_bias->contiguous() : at::Tensor();
  const Launch launch(x);
  multiply_few(type_of(x), weight, {x.const_data_ptr(), x.size(0), x.stride(0)},
               bias.defined() ? bias.const_data_ptr() : nullptr, out.scalar_type() == at::kFloat,
               out.mutable_data_ptr(), launch.stream());
  launch.check();
}

// Some outputs at a time become numbers, which cuBLAS multiplies with.
void multiply_many(const Outputs& weight, const at::Tensor& x, const std::optional<at::Tensor>& bias,
                   at::Tensor& out) {
  const std::int64_t slice = std::max<std::int64_t>(1, kNumbersAtOnce / weight.inputs / 64) * 64;
  for (std::int64_t begin = 0; begin < weight.count; begin += slice) {
    Outputs some = weight;
    some.records = static_cast<const char*>(weight.records) + begin * weight.record_bytes;
    some.count = std::min(slice, weight.count - begin);
    at::Tensor numbers = at::empty({some.count, some.inputs}, x.options());
    {
      const Launch launch(x);
      dequantize(type_of(x), some, numbers.mutable_data_ptr(), launch.stream());
      launch.check();
    }
    at::Tensor part = out.narrow(1, begin, some.count);
    if (out.scalar_type() != x.scalar_type()) {
      part.copy_(cuda::linear_float(x, numbers));
    } else if (bias) {
      at::addmm_out(part, bias->narrow(0, begin, some.count), x, numbers.t());
    } else {
      at::mm_out(part, x, numbers.t());
    }
  }
}

template <LinearFormat kFormat>
at::Tensor multiply(const at::Tensor& input, const Weight& weight, const std::optional<at::Tensor>& bias,
                    at::ScalarType out_type) {
  at::Tensor out = at::empty({input.size(0), weight.outputs()}, input.options().dtype(out_type));
  if (out.numel() == 0) return out;
  const Outputs outputs = outputs_of(kFormat, weight);
  const at::Tensor x = filled_rows(input, outputs.inputs);
  if (x.size(0) <= kMostFewRows) {
    multiply_few(outputs, x, bias, out);
  } else {
    multiply_many(outputs, x, bias, out);
  }
  return out;
}

}  // namespace

at::Tensor pack_rounded(const std::vector<base::RoundedMatrix>& parts, std::int64_t inputs,
                        LinearFormat format) {
  const Layout layout(format, inputs);
  std::int64_t outputs = 0;
  for (const base::RoundedMatrix& part : parts) outputs += part.codes.size(0);
  at::Tensor packed = at::zeros({outputs, layout.bytes}, at::TensorOptions(at::kByte));
  std::int64_t first = 0;
  for (const base::RoundedMatrix& part : parts) {
    const at::Tensor records = packed.narrow(0, first, part.codes.size(0));
    const auto put = [&](std::int64_t at, const at::Tensor& values) {
      const at::Tensor bytes = values.view(at::kByte);
      records.narrow(1, at, bytes.size(1)).copy_(bytes);
    };
    put(0, part.codes);
    put(layout.scales, part.scales);
    if (layout.four_bits) put(layout.factors, part.factors);
    first += part.codes.size(0);
  }
  return packed;
}

Weight packed_weight(at::Tensor packed, LinearFormat format, std::int64_t outputs, std::int64_t inputs,
                     at::ScalarType dtype) {
  TORCH_CHECK(packed.sizes() == at::IntArrayRef({outputs, Layout(format, inputs).bytes}), "bytes ",
              packed.sizes(), " are not those of a weight [", outputs, ", ", inputs, "]");
  const at::Device device = packed.device();
  const WeightFormat& functions = format == LinearFormat::kInt8
                                      ? kPackedFormat<multiply<LinearFormat::kInt8>>
                                      : kPackedFormat<multiply<LinearFormat::kInt4>>;
  return {functions, {std::move(packed)}, outputs, inputs, dtype, device};
}

}  // namespace tte::kernels::cuda
