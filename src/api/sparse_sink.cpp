#include "api/sparse_sink.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/file.h"

namespace tte {

void SparseOptions::validate() const {
  if (top_k && *top_k < 1)
    throw InputError(fmt::format("top_k is {}: it must be 1 or more, or unset for all dimensions.", *top_k));
}

namespace api {

SparseSink::SparseSink(const ModelWithRecipe& embedder, const SparseOptions& options, std::size_t items)
    : heads_(embedder.sparse),
      top_k_(options.top_k ? static_cast<std::size_t>(*options.top_k)
                           : std::numeric_limits<std::size_t>::max()),
      items_(items) {
  options.validate();
  if (heads_ != nullptr) return;
  const std::string& file = embedder.recipe().sparse.file;
  if (file.empty()) {
    throw InputError(
        fmt::format("The recipe \"{}\" has no sparse vector: call embed, or give a recipe with \"sparse\".",
                    embedder.recipe().name));
  }
  throw ModelError(fmt::format("{} is missing, which the sparse vectors of the recipe \"{}\" need: fetch it.",
                               base::shown(embedder.description.path / file), embedder.recipe().name));
}

SparseSink::Row SparseSink::make_row(const at::Tensor& dense, std::size_t top_k) {
  const float* values = dense.const_data_ptr<float>();
  Row out;
  for (std::int64_t i = 0; i < dense.numel(); ++i) {
    if (values[i] > 0) out.indices.push_back(static_cast<std::int32_t>(i));
  }
  if (out.indices.size() > top_k) {
    // The first of equal ones.
    const auto before = [&](std::int32_t a, std::int32_t b) {
      return values[a] != values[b] ? values[a] > values[b] : a < b;
    };
    const auto end = out.indices.begin() + static_cast<std::ptrdiff_t>(top_k);
    std::nth_element(out.indices.begin(), end, out.indices.end(), before);
    out.indices.erase(end, out.indices.end());
    std::sort(out.indices.begin(), out.indices.end());
  }
  for (const std::int32_t i : out.indices) out.values.push_back(values[i]);
  return out;
}

void SparseSink::store(Call& call, std::size_t item, const at::Tensor& states, std::function<void()> then) {
  // The job owns what it reads: it may still run when the call has been left.
  std::function<Row()> job = [heads = heads_, states, top_k = top_k_] {
    return make_row((*heads)(states), top_k);
  };
  call.prepare<Row>(item, std::move(job), [this, item, then = std::move(then)](Row row, double) {
    items_[item] = std::move(row);
    then();
  });
}

SparseEmbeddings SparseSink::result() {
  SparseEmbeddings out;
  out.dim = heads_->outputs();
  out.offsets.push_back(0);
  for (Row& row : items_) {
    out.indices.insert(out.indices.end(), row.indices.begin(), row.indices.end());
    out.values.insert(out.values.end(), row.values.begin(), row.values.end());
    out.offsets.push_back(static_cast<std::int64_t>(out.indices.size()));
    row = {};
  }
  return out;
}

}  // namespace api
}  // namespace tte
