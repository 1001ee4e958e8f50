// Decoding settings from three places: the caller, the recipe, and the checkpoint's generation_config.json.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/json.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/options.h"

namespace tte::prompt {

struct GenerationConfig {
  GenerateOptions options;            // What generation_config.json says; the rest is unset.
  std::vector<std::int64_t> end_ids;  // Tokens that end a text.
  // The most tokens of prompt and text together, where nobody says how many of text.
  std::optional<std::int64_t> max_length;
  // Settings that would change the text and that tte does not have: a sentence each, to be thrown by whoever
  // decodes. The second list counts only where the file's own temperature is used.
  std::vector<std::string> refused;
  std::vector<std::string> refused_sampling;
};

// generation_config.json, or what config.json says of the same where it is missing; with the end tokens of config.json
// where it has none, and the tokenizer's where that has none either. As in transformers, sampling settings count only
// with do_sample. Every key of transformers' GenerationConfig is either read, or cannot change the text here (what is
// said of caches, beams, assistants and outputs), or is noted as refused unless its value is the one that changes
// nothing; other keys say nothing. Throws ModelError naming file and key for values of the wrong type or out of range.
GenerationConfig load_generation_config(const base::Checkpoint& checkpoint, const text::Tokenizer& tokenizer);

// The caller's settings, completed by the recipe's: what neither sets stays unset. Throws InputError for one out of
// range.
GenerateOptions combined(const GenerateOptions& caller, const GenerateOptions& recipe);

// The caller's settings, completed by the recipe's, then by the checkpoint's (those of sampling only if the caller or
// the recipe asks for them), then by GenerateOptions::Number::otherwise. Every optional but `seed`, `max_think_tokens`
// and `max_new_tokens` is set afterwards. Throws InputError for a combination out of range, and ModelError for what the
// checkpoint asks for and tte does not have.
GenerateOptions resolve(const GenerateOptions& caller, const GenerateOptions& recipe,
                        const GenerationConfig& config);

// Lets `options`, resolved, end where `config` has the text end behind a prompt of so many tokens, where nothing else
// says so. Throws InputError for a prompt that leaves no room.
void end_at_length(GenerateOptions& options, const GenerationConfig& config, std::int64_t prompt_tokens);

// One number of a file into `out`, if it is there. Throws ModelError naming the key for what is none; the range of
// fractions is GenerateOptions::validate()'s.
template <typename T>
void read_number(const base::JsonObject& object, const GenerateOptions::Number<T>& number,
                 GenerateOptions& out) {
  if constexpr (std::floating_point<T>) {
    out.*number.member = object.number(number.name);
  } else if (const auto value = object.integer(number.name, number.least, number.most)) {
    out.*number.member = static_cast<T>(*value);
  }
}

}  // namespace tte::prompt
