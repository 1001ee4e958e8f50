// Self-attention of decoders, over the paged cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/kernels.h"
#include "nn/linear.h"
#include "nn/rope.h"
#include "weights/state_dict.h"

namespace tte::nn {

// What the layers of a step share: where its rows stand in their sequences, and on the cache.
struct Step {
  RopeTable rope;
  kernels::PagedBatch batch;
};

// Some rows of a step, for a layer whose other rows nobody reads.
struct Selection {
  at::Tensor rows;  // int64 [n] on the model's device, ascending.
  Step step;        // Of these rows only: Step's tables selected, nn::select_rows of its batch.
};

struct AttentionShape {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
};

// Grouped-query attention with rotary positions: q_proj, k_proj, v_proj (one stacked product) and o_proj.
class Attention {
 public:
  Attention(const weights::StateDict& weights, const AttentionShape& shape);

  // x [rows, hidden] -> [rows, hidden]; stores the rows' keys and values, then reads.
  [[nodiscard]] at::Tensor operator()(const at::Tensor& x, const Step& step,
                                      kernels::PagedCache& cache) const;
  // The two halves, for when fewer rows read than are stored. store() takes the rows of a step, read() the
  // selected ones with Selection::step.
  void store(const at::Tensor& x, const Step& step, kernels::PagedCache& cache) const;
  [[nodiscard]] at::Tensor read(const at::Tensor& x, const Step& selected,
                                const kernels::PagedCache& cache) const;

 private:
  // Columns of a stacked product as heads, [rows, heads, head_dim], without a copy.
  [[nodiscard]] at::Tensor heads(const at::Tensor& projected, std::int64_t first, std::int64_t count) const;

  AttentionShape shape_;
  double scale_;
  Linear qkv_;
  Linear q_, kv_;  // The parts of qkv_, sharing its weights.
  Linear out_;
};

}  // namespace tte::nn
