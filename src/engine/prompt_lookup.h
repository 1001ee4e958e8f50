// Guesses what a sequence writes next: speculative decoding by prompt lookup.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/guess_length.h"

namespace tte::engine {

// A trace quotes: the question, a page, itself. What followed the last few tokens where they stood before is guessed
// to follow again (prompt lookup decoding, https://github.com/apoorvumang/prompt-lookup-decoding; transformers'
// prompt_lookup_num_tokens). Guesses change no token: the model reads them in the same step as the last token, and
// those that it would not have written are dropped.
class PromptLookup {
 public:
  explicit PromptLookup(std::span<const std::int64_t> prompt);
  void accept(std::int64_t id);  // It was written.
  // At most `most` tokens; none where nothing is found.
  [[nodiscard]] std::vector<std::int64_t> guess(std::int64_t most) const;
  void judge(std::int64_t guessed, std::int64_t right) { length_.judge(guessed, right); }

 private:
  std::vector<std::int64_t> ids_;  // Prompt and trace.
  GuessLength length_;             // The most tokens of the next guess.
};

}  // namespace tte::engine
