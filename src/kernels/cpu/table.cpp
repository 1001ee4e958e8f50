#include "kernels/cpu/cpu_kernels.h"

namespace tte::kernels {

const KernelTable& cpu_kernels() {
  static constexpr KernelTable kTable{
      .linear = cpu::linear,
      .linear_float = cpu::linear_float,
      .rms_norm = cpu::rms_norm,
      .add_rms_norm = cpu::add_rms_norm,
      .layer_norm = cpu::layer_norm,
      .silu_mul = cpu::silu_mul,
      .activate = cpu::activate,
      .gated = cpu::gated,
      .rope = cpu::rope,
      .attention = cpu::attention,
      .store_kv = cpu::store_kv,
      .paged_attention = cpu::paged_attention,
      .causal_conv_silu = cpu::causal_conv_silu,
      .gated_delta_rule = cpu::gated_delta_rule,
      .cache_block_size = cpu::kCacheBlockSize,
  };
  return kTable;
}

}  // namespace tte::kernels
