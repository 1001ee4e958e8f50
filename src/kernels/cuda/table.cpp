#include "kernels/table.h"

#include "kernels/cuda/cuda_kernels.h"

namespace tte::kernels {
namespace {

constexpr KernelTable kTable{
    .linear = cuda::linear,
    .linear_float = cuda::linear_float,
    .rms_norm = cuda::rms_norm,
    .add_rms_norm = cuda::add_rms_norm,
    .layer_norm = cuda::layer_norm,
    .silu_mul = cuda::silu_mul,
    .activate = cuda::activate,
    .gated = cuda::gated,
    .rope = cuda::rope,
    .attention = cuda::attention,
    .store_kv = cuda::store_kv,
    .paged_attention = cuda::paged_attention,
    .causal_conv_silu = cuda::causal_conv_silu,
    .gated_delta_rule = cuda::gated_delta_rule,
    .cache_block_size = cuda::kCacheBlockSize,
};

}  // namespace
}  // namespace tte::kernels

extern "C" __attribute__((visibility("default"))) const tte::kernels::KernelTable* tte_cuda_kernel_table(
    int version) {
  return version == tte::kernels::kCudaTableVersion ? &tte::kernels::kTable : nullptr;
}
