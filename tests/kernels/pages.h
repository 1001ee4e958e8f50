// Paged caches filled with random keys and values, and what attention over them should give.
#pragma once

#include <vector>

#include "kernels/reference.h"

namespace tte::kernels::reference {

// A cache whose blocks are handed out in a scrambled order, and the tokens of each sequence as plain tensors.
struct Pages {
  PagedCache cache;
  PagedBatch batch;
  std::vector<at::Tensor> keys, values;  // By sequence, [length, kv_heads, head_dim].
};

// `rows[i]` new rows of a sequence with `lengths[i]` tokens. Stores every token through store_kv: the older
// ones in a step of their own. Unused slots hold NaN: a kernel that reads past a sequence's end shows it.
Pages make_pages(const std::vector<std::int32_t>& rows, const std::vector<std::int32_t>& lengths,
                 std::int64_t kv_heads, std::int64_t head_dim, at::ScalarType type,
                 at::Device device = at::kCPU);

// Float64 attention of q [rows, heads, head_dim] over the pages' tokens, on the CPU.
at::Tensor paged_attention(const at::Tensor& q, const Pages& pages, double scale);

// Steps that a scheduler makes: new rows and lengths by sequence.
struct Step {
  const char* name;
  std::vector<std::int32_t> rows, lengths;
};

const std::vector<Step>& steps();

// Float64 attention within the sequences of a ragged batch.
at::Tensor ragged_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int32_t>& cu_seqlens, bool causal, double scale);

}  // namespace tte::kernels::reference
