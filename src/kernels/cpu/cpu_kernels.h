// The CPU implementations behind kernels.h, which states what each does. Arguments were checked by
// dispatch.cpp.
#pragma once

#include "kernels/table.h"

namespace tte::kernels::cpu {

inline constexpr std::int64_t kCacheBlockSize = 64;

Linear linear;
LinearFloat linear_float;
decltype(kernels::rms_norm) rms_norm;
decltype(kernels::add_rms_norm) add_rms_norm;
decltype(kernels::layer_norm) layer_norm;
decltype(kernels::silu_mul) silu_mul;
decltype(kernels::activate) activate;
decltype(kernels::gated) gated;
decltype(kernels::rope_) rope;
decltype(kernels::attention) attention;
decltype(kernels::store_kv) store_kv;
decltype(kernels::paged_attention) paged_attention;
decltype(kernels::causal_conv_silu) causal_conv_silu;
decltype(kernels::gated_delta_rule) gated_delta_rule;

}  // namespace tte::kernels::cpu
