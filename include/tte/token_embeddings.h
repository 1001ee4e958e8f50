/// @file
/// Late interaction: one vector per token, and the scores of token sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "tte/export.h"
#include "tte/options.h"

namespace tte {

/// What a token of a prompt is.
enum class TokenOrigin : std::uint8_t {
  kText,     ///< A word: of the template, the instruction or the item.
  kVisual,   ///< A part of an image or a video.
  kTrace,    ///< A word of the trace.
  kSpecial,  ///< A special token of the tokenizer, such as <|im_end|>, wherever it stands.
};

/// How neighbouring or similar vectors become one.
enum class TokenPooling : std::uint8_t {
  kNeighbours,    ///< Each `factor` tokens that follow one another.
  kHierarchical,  ///< Ward's clusters of similar tokens, in runs of at most 2,048 tokens.
};

/// Which tokens get a vector, and which of these are merged.
struct TokenOptions {
  bool text = true;
  bool visual = true;
  bool trace = true;
  /// Unset: only where the recipe pools nothing, as ColBERT's models were trained.
  std::optional<bool> special;
  TokenPooling pooling = TokenPooling::kNeighbours;
  int factor = 1;  ///< n tokens of one origin become ceil(n / factor) vectors, the means; 1: no pooling.
  bool float32 = false;  ///< Vectors in float32 instead of float16.

  /// Throws InputError for a factor below 1.
  TTE_API void validate() const;
};

/// Token sets that are somewhere in memory, a mapped file for example: rows offsets[i] .. offsets[i + 1] are set i's.
/// Nothing is copied.
struct TokenSets {
  const void* data = nullptr;  ///< [offsets.back(), dim] row-major: float32, or IEEE float16.
  bool half = false;           ///< `data` is float16.
  std::int64_t dim = 0;
  std::span<const std::int64_t> offsets;  ///< [sets + 1], ascending from 0.

  [[nodiscard]] std::size_t size() const { return offsets.empty() ? 0 : offsets.size() - 1; }
};

struct MaxSimOptions {
  bool mean = false;  ///< The mean over the query's tokens instead of their sum.
  int threads = 0;    ///< 0: one per core.
  CancelToken cancel;
  /// Called on the calling thread at least every 50 ms; what it throws stops the call and comes out of it.
  std::function<void()> poll;
};

/// MaxSim of every query with every document: for each token of the query the largest dot product with a token of the
/// document, summed over the query's tokens. float32 [queries, documents] row-major, products of float32 summed in
/// float32; NaN where either set is empty. A score depends on its own two sets only, to the bit. Documents are read
/// once, in order, and converted a few thousand rows at a time. Throws InputError for sets of different dim or offsets
/// that do not ascend from 0, CancelledError when stopped.
[[nodiscard]] TTE_API std::vector<float> maxsim(const TokenSets& queries, const TokenSets& documents,
                                                const MaxSimOptions& options = {});

}  // namespace tte
