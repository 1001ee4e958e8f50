// The operations of kernels.h for one kind of device. The CPU's table is linked in; libtte_cuda.so exports
// its own.
#pragma once

#include "kernels/kernels.h"

namespace tte::kernels {

// Products are those of the plain format; other formats bring their own (weight.h).
struct KernelTable {
  at::Tensor (*linear)(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias);
  at::Tensor (*linear_float)(const at::Tensor& x, const at::Tensor& weight);
  at::Tensor (*rms_norm)(const at::Tensor& x, const at::Tensor& weight, double eps, NormScale scale);
  at::Tensor (*add_rms_norm)(at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight,
                             double eps, NormScale scale);
  at::Tensor (*layer_norm)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);
  at::Tensor (*silu_mul)(const at::Tensor& gate_up);
  at::Tensor (*activate)(const at::Tensor& x, Activation activation);
  void (*rope)(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
  at::Tensor (*attention)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale);
  void (*store_kv)(const at::Tensor& k, const at::Tensor& v, PagedCache& cache, const PagedBatch& batch);
  at::Tensor (*paged_attention)(const at::Tensor& q, const PagedCache& cache, const PagedBatch& batch,
                                double scale);
  std::int64_t cache_block_size;
};

const KernelTable& cpu_kernels();

// Throws DeviceError for a device without kernels, and for a GPU before load_cuda().
const KernelTable& table_of(at::Device device);

// The CUDA table once load_cuda() succeeded, else null.
const KernelTable* loaded_cuda_kernels();

// What libtte_cuda.so exports, as a C symbol with this name. Takes kCudaTableVersion and returns null if the
// library was built for another layout of KernelTable.
using CudaTableFunction = const KernelTable* (*)(int version);
inline constexpr const char* kCudaTableSymbol = "tte_cuda_kernel_table";
inline constexpr int kCudaTableVersion = 2;

}  // namespace tte::kernels
