// Products with weights of few bits, whose codes become numbers on the way; and those numbers.
#include "kernels/cuda/quantized.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/device.cuh"

namespace tte::kernels::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;
constexpr int kAtOnce = static_cast<int>(kInputsAtOnce);
constexpr unsigned kInputsOfBlock = kThreads * kAtOnce;  // That its threads take at a time.
constexpr int kOutputsOfBlock = 4;

// Inputs that share a scale, and those that share a factor: base::kInt4Group and kInt4Block.
constexpr unsigned kGroup = 128, kBlock = 32;

// Byte i of the word, less `offset`, as float32. A float with the bits 0x4B000000 + n is 2^23 + n.
template <int I>
__device__ __forceinline__ float widen_byte(std::uint32_t word, float offset) {
  return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7440u + I)) - (8388608.0f + offset);
}
__device__ __forceinline__ void widen_bytes(std::uint32_t word, float offset, float* out, int step) {
  out[0] = widen_byte<0>(word, offset);
  out[step] = widen_byte<1>(word, offset);
  out[2 * step] = widen_byte<2>(word, offset);
  out[3 * step] = widen_byte<3>(word, offset);
}

// Inputs i .. i + 7 of an output as they lie in memory: all loads are begun before the first result is waited for.
template <bool kFour>
struct Codes;

template <>
struct Codes<false> {
  uint2 codes;

  __device__ __forceinline__ void load(const Outputs& /*weight*/, const std::uint8_t* record, unsigned i) {
    codes = *reinterpret_cast<const uint2*>(record + i);
  }
  // The codes as float32. Two's complement with the sign's bit turned is the number plus 128.
  __device__ __forceinline__ void widen(float (&out)[kAtOnce]) const {
    widen_bytes(codes.x ^ 0x80808080u, 128.0f, out, 1);
    widen_bytes(codes.y ^ 0x80808080u, 128.0f, out + 4, 1);
  }
  // What they are multiplied with, but for the scale of the output.
  __device__ __forceinline__ float scale() const { return 1.0f; }
};

template <>
struct Codes<true> {
  std::uint32_t codes;
  float group;
  std::int8_t factor;

  __device__ __forceinline__ void load(const Outputs& weight, const std::uint8_t* record, unsigned i) {
    codes = *reinterpret_cast<const std::uint32_t*>(record + i / 2);
    group = reinterpret_cast<const float*>(record + weight.scales)[i / kGroup];
    factor = reinterpret_cast<const std::int8_t*>(record + weight.factors)[i / kBlock];
  }
  __device__ __forceinline__ void widen(float (&out)[kAtOnce]) const {
    widen_bytes(codes & 0x0F0F0F0Fu, 8.0f, out, 2);
    widen_bytes(codes >> 4 & 0x0F0F0F0Fu, 8.0f, out + 1, 2);
  }
  __device__ __forceinline__ float scale() const { return group * static_cast<float>(factor); }
};

// The scale of an output of 8 bits.
__device__ __forceinline__ float output_scale(const Outputs& weight, const std::uint8_t* record) {
  return *reinterpret_cast<const float*>(record + weight.scales);
}

__device__ __forceinline__ const std::uint8_t* record_of(const Outputs& weight, std::int64_t output) {
  return static_cast<const std::uint8_t*>(weight.records) + output * weight.record_bytes;
}

template <typename T>
__device__ __forceinline__ void load_values(const T* x, float (&out)[kAtOnce]) {
  constexpr int kV = 16 / sizeof(T);
#pragma unroll
  for (int i = 0; i < kAtOnce; i += kV) {
    const Pack<T, kV> values = load<kV>(x + i);
#pragma unroll
    for (int j = 0; j < kV; ++j) out[i + j] = widen(values.values[j]);
  }
}

// Sums kCount values over the lanes of a warp. As long as there are several, lanes that exchange them keep half of them
// each: lane l returns the sum of value l / (32 / kCount).
template <int kLeft, int kOffset, int kCount>
__device__ __forceinline__ float sum_of_lanes(float (&values)[kCount]) {
  constexpr unsigned kAll = 0xFFFFFFFFu;
  if constexpr (kOffset == 0) {
    return values[0];
  } else if constexpr (kLeft > 1) {
    const bool upper = threadIdx.x % (2 * kOffset) >= kOffset;
#pragma unroll
    for (int i = 0; i < kLeft / 2; ++i) {
      const float low = values[i], high = values[i + kLeft / 2];
      values[i] = (upper ? high : low) + __shfl_xor_sync(kAll, upper ? low : high, kOffset);
    }
    return sum_of_lanes<kLeft / 2, kOffset / 2>(values);
  } else {
    values[0] += __shfl_xor_sync(kAll, values[0], kOffset);
    return sum_of_lanes<1, kOffset / 2>(values);
  }
}

// The sums over the warps of a block of `count` values, of which thread i < count gets value i. A lane of each warp has
// `value`, the one of this index, and gives it.
__device__ __forceinline__ float sum_of_warps(float value, bool gives, unsigned index, unsigned count) {
  __shared__ float parts[kWarps][32];
  if (gives) parts[threadIdx.x / 32][index] = value;
  __syncthreads();
  float sum = 0.0f;
  if (threadIdx.x < count) {
    for (unsigned warp = 0; warp < kWarps; ++warp) sum += parts[warp][threadIdx.x];
  }
  return sum;
}

// Adds products of inputs i .. i + 7 of a block's outputs and rows.
template <typename T, int kRows, bool kFour>
__device__ __forceinline__ void add_products(const Codes<kFour> (&codes)[kOutputsOfBlock], const FewRows& x,
                                             unsigned i, float (&sums)[kRows * kOutputsOfBlock]) {
  float numbers[kOutputsOfBlock][kAtOnce];
#pragma unroll
  for (int o = 0; o < kOutputsOfBlock; ++o) codes[o].widen(numbers[o]);
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const std::int64_t at = row < x.count ? row : x.count - 1;
    float values[kAtOnce];
    load_values(static_cast<const T*>(x.data) + at * x.stride + i, values);
#pragma unroll
    for (int o = 0; o < kOutputsOfBlock; ++o) {
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) sum += numbers[o][j] * values[j];
      sums[row * kOutputsOfBlock + o] += sum * codes[o].scale();
    }
  }
}

// A block has kOutputsOfBlock outputs, of up to kRows rows; its threads share the inputs. What is past the last output
// or row is computed as that one, and not stored.
template <typename T, bool kFour, int kRows>
__global__ void __launch_bounds__(kThreads)
    multiply_kernel(Outputs weight, FewRows x, const T* __restrict__ bias, bool float_out, void* out) {
  constexpr int kCount = kRows * kOutputsOfBlock;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kOutputsOfBlock;
  const std::uint8_t* records[kOutputsOfBlock];
#pragma unroll
  for (int o = 0; o < kOutputsOfBlock; ++o)
    records[o] = record_of(weight, first + o < weight.count ? first + o : weight.count - 1);

  // Loads that are begun together: where there is little to compute, memory has to be kept busy.
  constexpr unsigned kSteps = kRows > 2 ? 1 : 2;
  const auto inputs = static_cast<unsigned>(weight.inputs);
  float sums[kCount] = {};
  for (unsigned begin = threadIdx.x * kAtOnce; begin < inputs; begin += kSteps * kInputsOfBlock) {
    Codes<kFour> codes[kSteps][kOutputsOfBlock];
#pragma unroll
    for (unsigned step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int o = 0; o < kOutputsOfBlock; ++o) {
        const unsigned i = begin + step * kInputsOfBlock;
        if (i < inputs) codes[step][o].load(weight, records[o], i);
      }
    }
#pragma unroll
    for (unsigned step = 0; step < kSteps; ++step) {
      const unsigned i = begin + step * kInputsOfBlock;
      if (i < inputs) add_products<T, kRows>(codes[step], x, i, sums);
    }
  }

  constexpr unsigned kLanesOfValue = 32 / kCount;
  const unsigned lane = threadIdx.x % 32;
  const float of_warp = sum_of_lanes<kCount, 16>(sums);
  float sum = sum_of_warps(of_warp, lane % kLanesOfValue == 0, lane / kLanesOfValue, kCount);
  const std::int64_t row = threadIdx.x / kOutputsOfBlock, output = first + threadIdx.x % kOutputsOfBlock;
  if (threadIdx.x >= kCount || row >= x.count || output >= weight.count) return;
  if constexpr (!kFour) sum *= output_scale(weight, record_of(weight, output));
  if (bias != nullptr) sum += widen(bias[output]);
  if (float_out) {
    static_cast<float*>(out)[row * weight.count + output] = sum;
  } else {
    static_cast<T*>(out)[row * weight.count + output] = narrow<T>(sum);
  }
}

// A block has an output.
template <typename T, bool kFour>
__global__ void __launch_bounds__(kThreads) dequantize_kernel(Outputs weight, T* __restrict__ out) {
  constexpr int kV = 16 / sizeof(T);
  const std::int64_t output = blockIdx.x;
  const std::uint8_t* record = record_of(weight, output);
  for (unsigned i = threadIdx.x * kAtOnce; i < weight.inputs; i += kInputsOfBlock) {
    Codes<kFour> codes;
    codes.load(weight, record, i);
    float numbers[kAtOnce];
    codes.widen(numbers);
    const float scale = kFour ? codes.scale() : output_scale(weight, record);
#pragma unroll
    for (int j = 0; j < kAtOnce; j += kV) {
      Pack<T, kV> pack;
#pragma unroll
      for (int k = 0; k < kV; ++k) pack.values[k] = narrow<T>(numbers[j + k] * scale);
      store(out + output * weight.inputs + i + j, pack);
    }
  }
}

template <typename T, bool kFour, int kRows>
void launch_multiply(const Outputs& weight, const FewRows& x, const void* bias, bool float_out, void* out,
                     cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((weight.count + kOutputsOfBlock - 1) / kOutputsOfBlock);
  multiply_kernel<T, kFour, kRows>
      <<<blocks, kThreads, 0, stream>>>(weight, x, static_cast<const T*>(bias), float_out, out);
}

template <typename T, bool kFour>
void multiply(const Outputs& weight, const FewRows& x, const void* bias, bool float_out, void* out,
              cudaStream_t stream) {
  static_assert(kMostFewRows == 8, "the greatest number of rows below");
  if (x.count == 1) return launch_multiply<T, kFour, 1>(weight, x, bias, float_out, out, stream);
  if (x.count == 2) return launch_multiply<T, kFour, 2>(weight, x, bias, float_out, out, stream);
  if (x.count <= 4) return launch_multiply<T, kFour, 4>(weight, x, bias, float_out, out, stream);
  launch_multiply<T, kFour, 8>(weight, x, bias, float_out, out, stream);
}

}  // namespace

void multiply_few(Type type, const Outputs& weight, const FewRows& x, const void* bias, bool float_out,
                  void* out, cudaStream_t stream) {
  if (weight.count == 0 || x.count == 0) return;
  with_values(type, out, [&](auto* values) {
    using T = std::remove_pointer_t<decltype(values)>;
    if (weight.four_bits) {
      multiply<T, true>(weight, x, bias, float_out, out, stream);
    } else {
      multiply<T, false>(weight, x, bias, float_out, out, stream);
    }
  });
}

void dequantize(Type type, const Outputs& weight, void* out, cudaStream_t stream) {
  if (weight.count == 0) return;
  with_values(type, out, [&](auto* numbers) {
    using T = std::remove_pointer_t<decltype(numbers)>;
    const auto blocks = static_cast<unsigned>(weight.count);
    if (weight.four_bits) {
      dequantize_kernel<T, true><<<blocks, kThreads, 0, stream>>>(weight, numbers);
    } else {
      dequantize_kernel<T, false><<<blocks, kThreads, 0, stream>>>(weight, numbers);
    }
  });
}

}  // namespace tte::kernels::cuda
