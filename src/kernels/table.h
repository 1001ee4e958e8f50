// The operations of kernels.h for one kind of device. The CPU's table is linked in; libtte_cuda.so exports its own.
#pragma once

#include <vector>

#include "kernels/kernels.h"
#include "kernels/packed_weight.h"
#include "kernels/recording.h"

namespace tte::kernels {

// Products of the plain format; other formats bring their own (weight.h).
using Linear = at::Tensor(const at::Tensor& x, const at::Tensor& weight,
                          const std::optional<at::Tensor>& bias);
using LinearFloat = at::Tensor(const at::Tensor& x, const at::Tensor& weight);

// kernels::pack() of a matrix, and of what was rounded; their results are on the CPU.
using PackMatrix = at::Tensor(const at::Tensor& matrix, base::LinearFormat format);
using PackRounded = at::Tensor(const std::vector<base::RoundedMatrix>& parts, std::int64_t inputs,
                               base::LinearFormat format);

struct KernelTable {
  Linear* linear;
  LinearFloat* linear_float;
  decltype(kernels::rms_norm)* rms_norm;
  decltype(kernels::add_rms_norm)* add_rms_norm;
  decltype(kernels::layer_norm)* layer_norm;
  decltype(kernels::silu_mul)* silu_mul;
  decltype(kernels::activate)* activate;
  decltype(kernels::gated)* gated;
  decltype(kernels::rope_)* rope;
  decltype(kernels::attention)* attention;
  decltype(kernels::store_kv)* store_kv;
  decltype(kernels::paged_attention)* paged_attention;
  decltype(kernels::reads_device_lengths)* reads_device_lengths;  // Null: never,
  decltype(kernels::record)* record;                              // and this is null, too.
  decltype(kernels::causal_conv_silu)* causal_conv_silu;
  decltype(kernels::gated_delta_rule)* gated_delta_rule;
  decltype(kernels::broadcast)* broadcast;
  decltype(kernels::reduce_sum)* reduce_sum;
  PackMatrix* pack_matrix;  // Null: a matrix is rounded first.
  PackRounded* pack_rounded;
  decltype(kernels::packed_weight)* packed_weight;
  std::int64_t cache_block_size;
};

const KernelTable& cpu_kernels();

// Throws DeviceError for a device without kernels, and for a GPU before load_cuda().
const KernelTable& table_of(at::Device device);
inline const KernelTable& table_of(const at::Tensor& x) {
  return table_of(x.device());
}

// The CUDA table once load_cuda() succeeded, else null.
const KernelTable* loaded_cuda_kernels();

// What libtte_cuda.so exports, as a C symbol with this name. Takes kCudaTableVersion and returns null if the
// library was built for another layout of KernelTable.
using CudaTableFunction = const KernelTable* (*)(int version);
inline constexpr const char* kCudaTableSymbol = "tte_cuda_kernel_table";
inline constexpr int kCudaTableVersion = 6;

}  // namespace tte::kernels
