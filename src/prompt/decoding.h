// Decoding settings from three places: the caller, the recipe, and the checkpoint's generation_config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "text/tokenizer.h"
#include "tte/options.h"

namespace tte::prompt {

struct GenerationConfig {
  GenerateOptions options;            // What generation_config.json says; the rest is unset.
  std::vector<std::int64_t> end_ids;  // Tokens that end a text.
};

// generation_config.json (it may be missing), with the end tokens of config.json where it has none, and the
// tokenizer's where that has none either. As in transformers, sampling settings count only with do_sample.
// Throws ModelError naming file and key for values of the wrong type or out of range.
GenerationConfig load_generation_config(const std::filesystem::path& checkpoint,
                                        const text::Tokenizer& tokenizer);

// The caller's settings, completed by the recipe's, then by the checkpoint's, then by the documented
// defaults. Every optional but `seed` and `max_think_tokens` is set afterwards. Throws InputError for a
// combination out of range.
GenerateOptions resolve(const GenerateOptions& caller, const GenerateOptions& recipe,
                        const GenerationConfig& config);

}  // namespace tte::prompt
