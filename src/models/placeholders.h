// Prompts of token ids, some of which are placeholders for visuals: what every family does with them.
#pragma once

#include <cstdint>
#include <vector>

#include "models/prompt.h"

namespace tte::models {

// Throws InputError unless there are as many visuals as placeholders, of the same kinds in the same order;
// `videos`: whether each placeholder is for a video.
void check_visuals(const std::vector<bool>& videos, const Visuals& visuals);
// Throws InputError for ids outside of the vocabulary.
void check_ids(const std::vector<std::int64_t>& ids, std::int64_t vocab_size);
void append_text(Prompt& prompt, std::int64_t id, std::int64_t position);

}  // namespace tte::models
