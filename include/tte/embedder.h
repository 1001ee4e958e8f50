/// @file
/// The model that embeds: inputs, with or without traces, in; vectors out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tte/backend.h"
#include "tte/export.h"
#include "tte/input.h"
#include "tte/options.h"
#include "tte/reasoner.h"
#include "tte/token_embeddings.h"
#include "tte/tokenizer.h"
#include "tte/trace.h"

namespace tte {

struct EmbedCallOptions : CallOptions, EmbedOptions {
  std::optional<std::string> instruction;  ///< Instead of the recipe's; an item's own comes first.
  Task task;
  std::vector<Task> tasks;  ///< One per item instead of `task`; empty: `task` for all.
  /// Called on the calling thread with each vector (float32 [dim]) as soon as it is there.
  std::function<void(std::size_t item, std::span<const float> vector)> on_result;
};

/// One vector per input. With OnError::kSkip the row of an item that failed is all NaN, and `errors` says why.
struct Embeddings {
  std::vector<float> data;  ///< [rows, dim] row-major.
  std::int64_t rows = 0;
  std::int64_t dim = 0;
  std::vector<ItemError> errors;     ///< In the order of the items.
  std::vector<Timings> timings;      ///< [rows]
  std::vector<std::int64_t> tokens;  ///< [rows] Tokens of each prompt, trace included.

  [[nodiscard]] std::span<const float> row(std::size_t i) const {
    return {data.data() + i * static_cast<std::size_t>(dim), static_cast<std::size_t>(dim)};
  }
};

/// Vectors of the tokens of each input: rows offsets[i] .. offsets[i + 1] are input i's. An input of which no token is
/// kept has one row, its pooled vector; one that failed (OnError::kSkip) has none.
struct TokenEmbeddings {
  std::vector<std::uint16_t> half;  ///< [offsets.back(), dim] row-major, IEEE float16; empty with float32.
  std::vector<float> data;          ///< The same in float32; empty without.
  std::int64_t dim = 0;
  std::vector<std::int64_t> offsets;  ///< [inputs + 1]
  /// [rows] The index of each row's token in the prompt (of several, of the first); -1: none.
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> ids;     ///< [rows] The id of that token; -1: none.
  std::vector<TokenOrigin> origins;  ///< [rows]
  /// One vector per input from the same pass, as embed() gives it, with errors and timings. Where the recipe pools
  /// nothing: the last token's.
  Embeddings pooled;

  [[nodiscard]] TokenSets sets() const;  ///< A view, valid as long as this is.
};

struct SparseOptions {
  /// Keep so many of the largest values of each vector, of equal ones the first; unset: all above 0.
  std::optional<int> top_k;

  /// Throws InputError for a top_k below 1.
  TTE_API void validate() const;
};

/// Sparse vectors, whose dimensions are entries of the model's own vocabulary: of input i, the dimensions
/// indices[offsets[i]] .. indices[offsets[i + 1]], ascending, have these values above 0, and all others are 0. They are
/// compared by their dot product. An input that failed (OnError::kSkip) has none.
struct SparseEmbeddings {
  std::vector<float> values;          ///< [offsets.back()]
  std::vector<std::int32_t> indices;  ///< [offsets.back()] 0 to dim - 1.
  std::vector<std::int64_t> offsets;  ///< [inputs + 1]
  std::int64_t dim = 0;
  /// One dense vector per input from the same pass, as embed() gives it, with errors and timings.
  Embeddings pooled;
};

/// A multimodal embedding model. const and thread-safe: concurrent calls join the same batches. Copies share it.
class TTE_API Embedder {
 public:
  /// Loads a checkpoint folder as written by save_pretrained. Throws as Reasoner::load.
  static Embedder load(const std::filesystem::path& checkpoint, const LoadOptions& options = {},
                       const Backend& backend = Backend::shared());

  /// Vectors of the inputs, in their order; row i is read after traces[i] where there is one. `traces` is
  /// empty or has one entry per input. Vectors do not depend on the other inputs of the call. Throws
  /// InputError naming the item (see OnError), CancelledError when stopped.
  [[nodiscard]] Embeddings embed(const std::vector<Input>& inputs,
                                 const std::vector<std::optional<Trace>>& traces = {},
                                 const EmbedCallOptions& options = {}) const;

  /// Vectors of the tokens of each input: hidden states after the final norm. `truncate_dim` applies to each, and
  /// `normalize` too, unset: yes. `on_result` gets the pooled vector. Throws as embed().
  [[nodiscard]] TokenEmbeddings embed_tokens(const std::vector<Input>& inputs,
                                             const std::vector<std::optional<Trace>>& traces = {},
                                             const EmbedCallOptions& options = {},
                                             const TokenOptions& tokens = {}) const;

  /// Sparse vectors of the inputs, for systems that were trained to make them (a recipe with "sparse", and the file
  /// of its heads in the checkpoint's folder), and the dense ones of the same pass, to which `normalize` and
  /// `truncate_dim` apply. `on_result` gets the dense one. Throws as embed(), InputError where the recipe has no
  /// sparse vector, and ModelError where the heads' file is missing.
  [[nodiscard]] SparseEmbeddings embed_sparse(const std::vector<Input>& inputs,
                                              const std::vector<std::optional<Trace>>& traces = {},
                                              const EmbedCallOptions& options = {},
                                              const SparseOptions& sparse = {}) const;

  /// Dimensions of a sparse vector; 0: there is none, or its heads are not in the checkpoint's folder.
  [[nodiscard]] std::int64_t sparse_dim() const;

  [[nodiscard]] std::int64_t dim() const;  ///< Dimensions of a vector that is not truncated.
  [[nodiscard]] const ModelDescription& model() const;
  [[nodiscard]] Backend backend() const;
  [[nodiscard]] Tokenizer tokenizer() const;

  class Impl;
  explicit Embedder(std::shared_ptr<const Impl> impl);
  [[nodiscard]] const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Cosine similarities of every row of `a` to every row of `b`, float32 [a.rows, b.rows] row-major. Rows need
/// not be normalised. Throws InputError when the dimensions differ.
[[nodiscard]] TTE_API std::vector<float> cosine(const Embeddings& a, const Embeddings& b);

}  // namespace tte
