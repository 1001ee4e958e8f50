// Prompts of token ids with placeholders, and where their tokens stand on the three axes of M-RoPE.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/placeholders.h"
#include "models/prompt.h"

namespace tte::models::qwen {

struct PlaceholderTokens {
  std::int64_t image, video;
  std::int64_t vocab_size;
  std::int64_t merge_size;  // Side of a merged token, in patches.
};

// Positions on the time axis between two temporal patches of a visual; float32, as transformers computes it. Empty for
// families whose videos have a placeholder for each temporal patch, as if it were an image.
using TimeStep = std::function<float(const Visual& visual)>;

// Positions as transformers' get_rope_index of Qwen2-VL and Qwen2.5-VL: text counts up on all three axes; a
// visual's tokens count from where text stopped, t by `time_step` (rounded down) a temporal patch, h and w by
// merged row and column; text then goes on max(h, w) further, even if t went past that. What is generated goes
// on as text does, as with transformers' generate() (5.24; its forward(), given a cache and no positions, goes
// on past the highest position of all).
//
// Throws InputError for ids outside of the vocabulary, and if placeholders and visuals do not match.
Prompt expand_placeholders(const std::vector<std::int64_t>& ids, Visuals visuals,
                           const PlaceholderTokens& tokens, const TimeStep& time_step);

}  // namespace tte::models::qwen
