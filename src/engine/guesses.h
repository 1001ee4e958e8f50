// Guessed tokens, of prompt lookup or of a draft: a step reads them before it is known whether they are right.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.h"

namespace tte::engine {

struct GuessLimits {
  std::int64_t spare = 0;       // Tokens that the step has left.
  std::int64_t lookup = 0;      // EngineOptions::prompt_lookup_tokens
  std::int64_t draft_step = 0;  // Tokens of a draft's steps.
};
// Adds guesses to the chunks of decoding sequences, as many as make the step hardly longer.
void add_guesses(const GuessLimits& limits, std::vector<Chunk>& chunks);

}  // namespace tte::engine
