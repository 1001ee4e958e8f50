// The CPU implementations behind kernels.h, which states what each does. Arguments were checked by
// dispatch.cpp.
#pragma once

#include "kernels/table.h"

namespace tte::kernels::cpu {

inline constexpr std::int64_t kCacheBlockSize = 64;

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias);
at::Tensor linear_float(const at::Tensor& x, const at::Tensor& weight);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, NormScale scale);
at::Tensor add_rms_norm(at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps,
                        NormScale scale);
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);
at::Tensor silu_mul(const at::Tensor& gate_up);
at::Tensor activate(const at::Tensor& x, Activation activation);
void rope(at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale);
void store_kv(const at::Tensor& k, const at::Tensor& v, PagedCache& cache, const PagedBatch& batch);
at::Tensor paged_attention(const at::Tensor& q, const PagedCache& cache, const PagedBatch& batch,
                           double scale);

}  // namespace tte::kernels::cpu
