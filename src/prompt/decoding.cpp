#include "prompt/decoding.h"

#include <fmt/core.h>

#include <string>

#include "base/json.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;

constexpr int kDefaultMaxNewTokens = 512;
constexpr int kTransformersTopK = 50;  // GenerationConfig's own default, in force when do_sample is on.

// An id or a list of ids; nothing when absent.
std::vector<std::int64_t> end_ids(const Json& json, const std::string& where) {
  const auto it = json.find("eos_token_id");
  if (it == json.end() || it->is_null()) return {};
  auto ids = it->is_array()
                 ? base::require<std::vector<std::int64_t>>(json, "eos_token_id", where)
                 : std::vector<std::int64_t>{base::require<std::int64_t>(json, "eos_token_id", where)};
  for (const std::int64_t id : ids) {
    if (id < 0)
      throw ModelError(fmt::format("{}: \"eos_token_id\" has {}, which is not a token.", where, id));
  }
  return ids;
}

template <typename T>
std::optional<T> optional(const Json& json, const std::string& key, const std::string& where) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return std::nullopt;
  return base::require<T>(json, key, where);
}

template <typename T>
void fall_back(std::optional<T>& value, const std::optional<T>& next) {
  if (!value) value = next;
}

// What is unset in `options` is taken from `next`.
void complete(GenerateOptions& options, const GenerateOptions& next) {
  fall_back(options.max_new_tokens, next.max_new_tokens);
  fall_back(options.temperature, next.temperature);
  fall_back(options.top_k, next.top_k);
  fall_back(options.top_p, next.top_p);
  fall_back(options.min_p, next.min_p);
  fall_back(options.repetition_penalty, next.repetition_penalty);
  fall_back(options.seed, next.seed);
  fall_back(options.max_think_tokens, next.max_think_tokens);
  if (options.min_new_tokens == 0) options.min_new_tokens = next.min_new_tokens;
  if (options.stop.empty()) options.stop = next.stop;
  if (options.stop_token_ids.empty()) options.stop_token_ids = next.stop_token_ids;
  options.ignore_eos = options.ignore_eos || next.ignore_eos;
}

}  // namespace

GenerationConfig load_generation_config(const std::filesystem::path& checkpoint,
                                        const text::Tokenizer& tokenizer) {
  GenerationConfig out;
  const auto file = checkpoint / "generation_config.json";
  if (std::filesystem::exists(file)) {
    const std::string where = file.string();
    const Json json = base::read_json(file);
    out.end_ids = end_ids(json, where);
    out.options.max_new_tokens = optional<int>(json, "max_new_tokens", where);
    out.options.repetition_penalty = optional<double>(json, "repetition_penalty", where);
    if (base::get_or<bool>(json, "do_sample", false, where)) {
      out.options.temperature = optional<double>(json, "temperature", where).value_or(1.0);
      out.options.top_k = optional<int>(json, "top_k", where).value_or(kTransformersTopK);
      out.options.top_p = optional<double>(json, "top_p", where);
      out.options.min_p = optional<double>(json, "min_p", where);
    }
    try {
      out.options.validate();
    } catch (const InputError& error) {
      throw ModelError(fmt::format("{} does not work: {}", where, error.what()));
    }
  }
  if (out.end_ids.empty()) {
    const auto config = checkpoint / "config.json";
    const Json json = base::read_json(config);
    out.end_ids = end_ids(json, config.string());
    if (const auto text = json.find("text_config");
        out.end_ids.empty() && text != json.end() && text->is_object()) {
      out.end_ids = end_ids(*text, config.string());
    }
  }
  if (out.end_ids.empty() && tokenizer.eos_id()) out.end_ids.push_back(*tokenizer.eos_id());
  return out;
}

GenerateOptions resolve(const GenerateOptions& caller, const GenerateOptions& recipe,
                        const GenerationConfig& config) {
  caller.validate();
  GenerateOptions out = caller;
  complete(out, recipe);
  complete(out, config.options);
  GenerateOptions defaults;
  defaults.max_new_tokens = kDefaultMaxNewTokens;
  defaults.temperature = 0.0;
  defaults.top_k = 0;
  defaults.top_p = 1.0;
  defaults.min_p = 0.0;
  defaults.repetition_penalty = 1.0;
  complete(out, defaults);
  out.validate();
  return out;
}

}  // namespace tte::prompt
