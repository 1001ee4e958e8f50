#include "prompt/decoding.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;
using base::JsonObject;

constexpr int kTransformersTopK = 50;  // GenerationConfig's own default, in force when do_sample is on.

// Whether a value says nothing: null, false, an empty list or object, or the number that does nothing.
bool is_neutral(const Json& value, std::optional<double> nothing) {
  if (value.is_null() || value == false || (value.is_structured() && value.empty())) return true;
  return nothing && value.is_number() && value.get<double>() == *nothing;
}

// A key that would change the text, unless it has the value that changes nothing.
struct Refused {
  const char* key;
  std::optional<double> nothing = {};
  bool only_sampling = false;
};
constexpr Refused kRefused[] = {
    {"bad_words_ids"},
    {"begin_suppress_tokens"},
    {"constraints"},
    {"diversity_penalty", 0.0},
    {"dola_layers"},
    {"encoder_no_repeat_ngram_size", 0.0},
    {"encoder_repetition_penalty", 1.0},
    {"epsilon_cutoff", 0.0, true},
    {"eta_cutoff", 0.0, true},
    {"exponential_decay_length_penalty"},
    {"force_words_ids"},
    {"forced_bos_token_id"},
    {"forced_eos_token_id"},
    {"guidance_scale", 1.0},
    {"max_time"},
    {"no_repeat_ngram_size", 0.0},
    {"num_beam_groups", 1.0},
    {"num_beams", 1.0},
    {"num_return_sequences", 1.0},
    {"penalty_alpha", 0.0},
    {"sequence_bias"},
    {"suppress_tokens"},
    {"token_healing"},
    {"top_h", 1.0, true},
    {"typical_p", 1.0, true},
    {"watermarking_config"},
};

void note_refused(const JsonObject& file, bool sampling, GenerationConfig& out) {
  const auto note = [&](const char* key, std::vector<std::string>& list) {
    list.push_back(fmt::format(
        "{} asks for a setting that would change the text and that tte does not have, \"{}\" ({}): "
        "take it out of the file to do without it.",
        file.where(), key, base::shown(*file.find(key), 24)));
  };
  for (const Refused& refused : kRefused) {
    const Json* value = file.find(refused.key);
    if (value == nullptr || is_neutral(*value, refused.nothing)) continue;
    if (!refused.only_sampling) {
      note(refused.key, out.refused);
    } else if (sampling) {
      note(refused.key, out.refused_sampling);
    }
  }
  // Counted from the start of the prompt; min_new_tokens overrides it.
  if (const Json* least = file.find("min_length");
      least != nullptr && !is_neutral(*least, 0.0) && !file.has("min_new_tokens")) {
    note("min_length", out.refused);
  }
}

// An id or a list of ids; nothing when absent.
std::vector<std::int64_t> end_ids(const JsonObject& object) {
  const Json* value = object.find("eos_token_id");
  if (value == nullptr) return {};
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (value->is_array()) return object.integers("eos_token_id", {}, 0, kMost);
  return {*object.integer("eos_token_id", 0, kMost)};
}

// The settings without those of sampling.
GenerateOptions greedy(GenerateOptions options) {
  options.temperature.reset();
  GenerateOptions::numbers([&](const auto& number) {
    if (number.sampling) (options.*number.member).reset();
  });
  return options;
}

void read_settings(const JsonObject& file, GenerationConfig& out) {
  GenerateOptions& options = out.options;
  out.end_ids = end_ids(file);
  GenerateOptions::numbers([&](const auto& number) {
    if (number.setter == GenerateOptions::Setter::kCheckpoint) read_number(file, number, options);
  });
  out.max_length = file.integer("max_length", 1, std::numeric_limits<std::int32_t>::max());
  if (const Json* stop = file.find("stop_strings")) {
    options.stop = stop->is_string() ? std::vector{stop->get<std::string>()} : file.texts("stop_strings");
  }
  const bool sampling = file.flag("do_sample", false);
  if (sampling) {
    options.temperature = options.temperature.value_or(1.0);
    options.top_k = options.top_k.value_or(kTransformersTopK);
  } else {
    options = greedy(options);
  }
  note_refused(file, sampling, out);
  // The file's least gives way to its most.
  if (options.max_new_tokens && options.min_new_tokens)
    options.min_new_tokens = std::min(*options.min_new_tokens, *options.max_new_tokens);
  try {
    options.validate();
  } catch (const InputError& error) {
    throw ModelError(fmt::format("{} does not work: {}", file.where(), error.what()));
  }
}

// config.json's, at the root or else in its "text_config".
JsonObject settings_of_model(const std::filesystem::path& file) {
  const JsonObject root = base::read_json_object(file);
  Json merged = root.object("text_config").json();
  for (const auto& [key, value] : root.json().items()) {
    if (!value.is_null()) merged[key] = value;
  }
  return {std::move(merged), root.where()};
}

// What is unset in `options` is taken from `next`.
void complete(GenerateOptions& options, const GenerateOptions& next) {
  GenerateOptions::numbers([&](const auto& number) {
    if (!(options.*number.member)) options.*number.member = next.*number.member;
  });
  const GenerateOptions unset;
  GenerateOptions::others([&](const char*, auto member) {
    if (options.*member == unset.*member) options.*member = next.*member;
  });
}

}  // namespace

GenerationConfig load_generation_config(const base::Checkpoint& checkpoint,
                                        const text::Tokenizer& tokenizer) {
  GenerationConfig out;
  const auto file = checkpoint / "generation_config.json";
  const JsonObject model = settings_of_model(checkpoint / "config.json");
  read_settings(base::is_present(file) ? base::read_json_object(file) : model, out);
  if (out.end_ids.empty()) out.end_ids = end_ids(model);
  if (out.end_ids.empty() && tokenizer.eos_id()) out.end_ids.push_back(*tokenizer.eos_id());
  return out;
}

GenerateOptions combined(const GenerateOptions& caller, const GenerateOptions& recipe) {
  caller.validate();
  GenerateOptions out = caller;
  complete(out, recipe);
  return out;
}

GenerateOptions resolve(const GenerateOptions& caller, const GenerateOptions& recipe,
                        const GenerationConfig& config) {
  GenerateOptions out = combined(caller, recipe);
  const bool chosen = out.min_new_tokens.has_value();
  if (!config.refused.empty()) throw ModelError(config.refused.front());
  const bool own_sampling =
      out.checkpoint_sampling && !out.temperature && config.options.temperature.value_or(0.0) > 0.0;
  if (own_sampling && !config.refused_sampling.empty()) throw ModelError(config.refused_sampling.front());
  complete(out, out.checkpoint_sampling ? config.options : greedy(config.options));
  const bool bounded = out.max_new_tokens.has_value();
  GenerateOptions::numbers([&](const auto& number) {
    if (!(out.*number.member)) out.*number.member = number.otherwise;
  });
  // The file's least gives way to a caller who wants fewer.
  if (!chosen) out.min_new_tokens = std::min(*out.min_new_tokens, *out.max_new_tokens);
  out.validate();
  if (!bounded) out.max_new_tokens.reset();  // The engine knows what the model has positions for.
  return out;
}

void end_at_length(GenerateOptions& options, const GenerationConfig& config, std::int64_t prompt_tokens) {
  if (options.max_new_tokens || !config.max_length) return;
  if (prompt_tokens >= *config.max_length) {
    throw InputError(fmt::format(
        "a prompt of {} tokens leaves no room in the checkpoint's \"max_length\", {}: shorten the input, "
        "or set max_new_tokens.",
        prompt_tokens, *config.max_length));
  }
  options.max_new_tokens = static_cast<int>(*config.max_length - prompt_tokens);
  options.min_new_tokens = std::min(*options.min_new_tokens, *options.max_new_tokens);
}

}  // namespace tte::prompt
