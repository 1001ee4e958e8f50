// Sparse vectors of one call as they come in.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "api/call.h"
#include "api/model_with_recipe.h"
#include "models/sparse_heads.h"
#include "tte/embedder.h"

namespace tte::api {

class SparseSink {
 public:
  // Throws InputError for a top_k below 1, and where the recipe has no sparse vector; ModelError where the checkpoint
  // lacks the file of its heads.
  SparseSink(const ModelWithRecipe& embedder, const SparseOptions& options, std::size_t items);

  // How many tokens behind the pooled one the heads read.
  [[nodiscard]] std::int64_t heads() const { return heads_->count(); }
  // Makes the vector of an item from the states of these tokens (float32 [heads, hidden], CPU) on the media pool;
  // then() follows on the calling thread.
  void store(Call& call, std::size_t item, const at::Tensor& states, std::function<void()> then);

  // Everything but `pooled`; once.
  SparseEmbeddings result();

 private:
  struct Row {
    std::vector<std::int32_t> indices;
    std::vector<float> values;
  };
  static Row make_row(const at::Tensor& dense, std::size_t top_k);

  std::shared_ptr<const models::SparseHeads> heads_;
  std::size_t top_k_;
  std::vector<Row> items_;
};

}  // namespace tte::api
