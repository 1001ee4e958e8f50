#include "prompt/decoding.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;
using base::JsonObject;

constexpr int kDefaultMaxNewTokens = 512;
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

std::optional<int> small_integer(const JsonObject& object, const char* key, std::int64_t least) {
  const auto number = object.integer(key, least, std::numeric_limits<std::int32_t>::max());
  return number ? std::optional(static_cast<int>(*number)) : std::nullopt;
}

void read_settings(const JsonObject& file, GenerationConfig& out) {
  GenerateOptions& options = out.options;
  out.end_ids = end_ids(file);
  options.max_new_tokens = small_integer(file, "max_new_tokens", 1);
  options.min_new_tokens = small_integer(file, "min_new_tokens", 0).value_or(0);
  options.repetition_penalty = file.number("repetition_penalty");
  if (const Json* stop = file.find("stop_strings")) {
    options.stop = stop->is_string() ? std::vector{stop->get<std::string>()} : file.texts("stop_strings");
  }
  const bool sampling = file.flag("do_sample", false);
  if (sampling) {
    options.temperature = file.number("temperature").value_or(1.0);
    options.top_k = small_integer(file, "top_k", 0).value_or(kTransformersTopK);
    options.top_p = file.number("top_p");
    options.min_p = file.number("min_p");
  }
  note_refused(file, sampling, out);
  if (options.max_new_tokens && options.min_new_tokens > *options.max_new_tokens)
    options.min_new_tokens = *options.max_new_tokens;
  try {
    options.validate();
  } catch (const InputError& error) {
    throw ModelError(fmt::format("{} does not work: {}", file.where(), error.what()));
  }
}

template <typename T>
void fall_back(std::optional<T>& value, const std::optional<T>& next) {
  if (!value) value = next;
}

void fall_back(int& value, int next) {
  if (value == 0) value = next;
}

// What is unset in `options` is taken from `next`.
void complete(GenerateOptions& options, const GenerateOptions& next) {
  GenerateOptions::numbers(
      [&](const char*, auto member, auto, auto) { fall_back(options.*member, next.*member); });
  if (options.stop.empty()) options.stop = next.stop;
  if (options.stop_token_ids.empty()) options.stop_token_ids = next.stop_token_ids;
  options.ignore_eos = options.ignore_eos || next.ignore_eos;
}

}  // namespace

GenerationConfig load_generation_config(const std::filesystem::path& checkpoint,
                                        const text::Tokenizer& tokenizer) {
  GenerationConfig out;
  const auto file = checkpoint / "generation_config.json";
  if (base::is_present(file)) {
    const Json json = base::read_json(file);
    read_settings(JsonObject(json, base::shown(file)), out);
  }
  if (out.end_ids.empty()) {
    const auto config = checkpoint / "config.json";
    const Json json = base::read_json(config);
    const JsonObject object(json, base::shown(config));
    out.end_ids = end_ids(object);
    if (out.end_ids.empty()) out.end_ids = end_ids(object.object("text_config"));
  }
  if (out.end_ids.empty() && tokenizer.eos_id()) out.end_ids.push_back(*tokenizer.eos_id());
  return out;
}

GenerateOptions resolve(const GenerateOptions& caller, const GenerateOptions& recipe,
                        const GenerationConfig& config) {
  caller.validate();
  if (!config.refused.empty()) throw ModelError(config.refused.front());
  GenerateOptions out = caller;
  complete(out, recipe);
  const bool own_sampling = !out.temperature && config.options.temperature.value_or(0.0) > 0.0;
  if (own_sampling && !config.refused_sampling.empty()) throw ModelError(config.refused_sampling.front());
  const int wanted = out.min_new_tokens;
  complete(out, config.options);
  GenerateOptions defaults;
  defaults.max_new_tokens = kDefaultMaxNewTokens;
  defaults.temperature = 0.0;
  defaults.top_k = 0;
  defaults.top_p = 1.0;
  defaults.min_p = 0.0;
  defaults.repetition_penalty = 1.0;
  complete(out, defaults);
  // The file's least gives way to a caller who wants fewer.
  if (wanted == 0) out.min_new_tokens = std::min(out.min_new_tokens, *out.max_new_tokens);
  out.validate();
  return out;
}

}  // namespace tte::prompt
