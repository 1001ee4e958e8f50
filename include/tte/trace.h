/// @file
/// What a Reasoner writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tte/export.h"

namespace tte {

/// Why a trace ended.
enum class FinishReason {
  kStop,       ///< An end token or a stop string.
  kLength,     ///< max_new_tokens was reached.
  kCallback,   ///< The token callback asked to stop.
  kCancelled,  ///< The call was cancelled; the text so far is kept.
  kGiven,      ///< Not generated: handed in by the caller.
  kError,      ///< The item could not be used: see `error` (only with OnError::kSkip).
};

/// Seconds spent on one item, by stage.
struct Timings {
  double media = 0;    ///< Decode, resize, patchify.
  double queue = 0;    ///< Waiting for a place in the batch.
  double prefill = 0;  ///< From admission to the first token (vision included).
  double decode = 0;   ///< From the first to the last token.
  double embed = 0;    ///< From handing to the embedder to the vector.
};

/// A reasoning trace: `<think>thinking</think>conclusion`.
struct Trace {
  std::string text;                     ///< Everything generated, tags included, special tokens left out.
  std::string thinking;                 ///< Between the tags; empty if there are none.
  std::string conclusion;               ///< After the closing tag; the whole text if there are no tags.
  std::vector<std::int64_t> token_ids;  ///< Empty where a server wrote it: it tells no ids.
  /// Digest of the vocabulary that `token_ids` belong to; empty: unknown. An embedder with the same
  /// vocabulary appends the ids as they are, any other encodes the text again.
  std::string vocabulary;
  FinishReason finish = FinishReason::kGiven;
  std::string error;  ///< One sentence; empty unless `finish` is kError.
  std::int64_t prompt_tokens = 0;
  /// Tokens that were written, as whoever wrote them counts; 0: unknown.
  std::int64_t generated_tokens = 0;
  std::int64_t reused_tokens = 0;  ///< Prompt tokens taken from an earlier sequence's state.
  Timings timings;

  /// A trace from its text alone, split at the tags.
  TTE_API static Trace from_text(std::string text, std::string_view think_open = "<think>",
                                 std::string_view think_close = "</think>");
};

}  // namespace tte
