#include "prompt/sentence_transformers.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/printable.h"
#include "prompt/recipe.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;
using base::JsonObject;

constexpr const char* kRemedy = "give a recipe (\"raw\" is the checkpoint's chat template and last token)";

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& what) {
  throw ModelError(
      fmt::format("{} asks for {}, which tte does not have: {}.", base::shown(file), what, kRemedy));
}

// An object of a file that may be missing.
JsonObject optional_object(const std::filesystem::path& file) {
  if (base::is_present(file)) return base::read_json_object(file);
  return {Json::object(), base::shown(file)};
}

// The pooling, from the mode's name or, of older files, from a flag for each mode.
std::string pooling_mode(const JsonObject& config, const std::filesystem::path& file) {
  std::vector<std::string> modes;
  if (const Json* mode = config.find("pooling_mode")) {
    modes = mode->is_string() ? std::vector{mode->get<std::string>()} : config.texts("pooling_mode");
  } else {
    for (const char* key : {"cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens",
                            "weightedmean_tokens", "lasttoken"}) {
      if (config.flag(std::string("pooling_mode_") + key, false)) modes.emplace_back(key);
    }
  }
  if (modes.size() != 1) refuse(file, fmt::format("{} poolings at a time", modes.size()));
  if (modes.front() == "lasttoken") return "last";
  if (modes.front() == "mean" || modes.front() == "mean_tokens") return "mean";
  refuse(file, fmt::format("the pooling \"{}\"", base::printable(modes.front(), 40)));
}

// What modules.json puts behind the transformer.
struct Modules {
  std::string pooling;
  Json projections = Json::array();
  bool normalize = false;
  bool prompt_pooled = true;  // Whether a mean has the states of the prompt too.
};

// What a Dense module of a folder is as a recipe's projection.
Json read_dense(const base::Checkpoint& checkpoint, const std::string& folder) {
  const auto file = checkpoint / (folder + "/config.json");
  const JsonObject config = base::read_json_object(file);
  const std::string function = config.text("activation_function", "torch.nn.modules.activation.Tanh");
  const std::string activation = function.substr(function.rfind('.') + 1);
  constexpr std::array kKnown = {std::pair{"Identity", "identity"}, std::pair{"Tanh", "tanh"},
                                 std::pair{"ReLU", "relu"},         std::pair{"GELU", "gelu"},
                                 std::pair{"Sigmoid", "sigmoid"},   std::pair{"SiLU", "silu"}};
  const auto known =
      std::find_if(kKnown.begin(), kKnown.end(), [&](const auto& pair) { return activation == pair.first; });
  if (!function.starts_with("torch.nn.") || known == kKnown.end())
    refuse(file, fmt::format("the activation \"{}\"", base::printable(function, 60)));
  for (const char* key : {"module_input_name", "module_output_name"}) {
    const std::string value = config.text(key, "sentence_embedding");
    if (value != "sentence_embedding")
      refuse(file, fmt::format("{} \"{}\"", key, base::printable(value, 40)));
  }
  Json out = {{"file", folder + "/model.safetensors"}, {"tensors", "linear."}, {"activation", known->second}};
  if (!config.flag("use_residual", false)) return out;
  const auto size = [&](const char* key) { return base::require<std::int64_t>(config, key); };
  if (size("in_features") == size("out_features")) {
    out["residual"] = true;
  } else {
    out["residual"] = "residual.";
  }
  return out;
}

Modules read_modules(const base::Checkpoint& checkpoint) {
  const auto file = checkpoint / "modules.json";
  const Json list = base::read_json(file);
  if (!list.is_array() || list.empty())
    throw ModelError(fmt::format("{} is not a list of modules.", base::shown(file)));
  Modules out;
  for (const Json& entry : list) {
    const JsonObject module(entry, base::shown(file));
    const auto type = base::require<std::string>(module, "type");
    const std::string kind = type.substr(type.rfind('.') + 1);
    const bool known = type.starts_with("sentence_transformers.") || kind == type;
    if (known && kind == "Transformer") {
      if (!module.text("path", "").empty())
        refuse(file, fmt::format("a transformer in a folder of its own (\"{}\")",
                                 base::printable(module.text("path", ""), 40)));
    } else if (known && kind == "Pooling") {
      const auto config_file = checkpoint / (module.text("path", "") + "/config.json");
      const JsonObject config = base::read_json_object(config_file);
      out.pooling = pooling_mode(config, config_file);
      out.prompt_pooled = config.flag("include_prompt", true);
    } else if (known && kind == "Dense" && !out.pooling.empty() && !out.normalize) {
      out.projections.push_back(read_dense(checkpoint, module.text("path", "")));
    } else if (known && kind == "Dense") {
      refuse(file,
             out.normalize ? "a Dense module behind Normalize" : "a Dense module in front of the pooling");
    } else if (known && kind == "Normalize") {
      out.normalize = true;
    } else {
      refuse(file, fmt::format("the module {}", base::printable(known ? kind : type, 80)));
    }
  }
  if (out.pooling.empty()) refuse(file, "a vector without a pooling");
  return out;
}

std::int64_t max_length(const base::Checkpoint& checkpoint, const JsonObject& settings) {
  const auto limit = [](const JsonObject& object, const char* key) {
    const Json* value = object.find(key);
    const auto number = value == nullptr ? std::nullopt : base::whole_number(*value, 1, kMostTokens);
    return number.value_or(kMostTokens);
  };
  if (settings.has("max_seq_length")) return limit(settings, "max_seq_length");
  return std::min(limit(optional_object(checkpoint / "tokenizer_config.json"), "model_max_length"),
                  limit(optional_object(checkpoint / "config.json"), "max_position_embeddings"));
}

// Texts are cut at their end, and vectors are as long as the modules make them.
void check_cuts(const base::Checkpoint& checkpoint, const JsonObject& settings, bool has_limit) {
  const auto file = checkpoint / "config_sentence_transformers.json";
  const JsonObject config = optional_object(file);
  if (const Json* dim = config.find("truncate_dim"); dim != nullptr && !dim->is_null()) {
    throw ModelError(
        fmt::format("{} asks for the first {} dimensions (truncate_dim), which tte keeps only where a call "
                    "asks for them: take the key out of the file, and give truncate_dim when you embed.",
                    base::shown(file), base::printable(dim->dump(), 40)));
  }
  if (!has_limit) return;
  const auto check_side = [](const JsonObject& object, const std::filesystem::path& where) {
    const std::string side = object.text("truncation_side", "right");
    if (side != "right")
      refuse(where, fmt::format("texts cut at the side \"{}\" (truncation_side)", base::printable(side, 40)));
  };
  check_side(optional_object(checkpoint / "tokenizer_config.json"), checkpoint / "tokenizer_config.json");
  for (const char* key : {"processor_kwargs", "tokenizer_args"})
    check_side(settings.object(key), checkpoint / "sentence_bert_config.json");
}

// The prompts by name, and the default one. True if any has a text.
bool read_prompts(const base::Checkpoint& checkpoint, Json& recipe) {
  const JsonObject config = optional_object(checkpoint / "config_sentence_transformers.json");
  const JsonObject prompts = config.object("prompts");
  bool any = false;
  Json tasks = Json::object();
  for (const auto& [name, prompt] : prompts.json().items()) {
    const std::string text = prompts.text(name, "");
    any = any || !text.empty();
    tasks[name] = {{"query", text}, {"target", text}};
  }
  const auto first = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (prompts.has(name)) return prompts.text(name, "");
    }
    return std::string();
  };
  if (any && !tasks.contains("retrieval"))
    tasks["retrieval"] = {{"query", first({"query"})}, {"target", first({"document", "passage", "corpus"})}};
  if (any) recipe["tasks"] = std::move(tasks);
  const std::string chosen = config.text("default_prompt_name", "");
  if (!chosen.empty() && !prompts.has(chosen)) {
    config.reject("default_prompt_name", "it must be one of the names under \"prompts\"");
  }
  if (!chosen.empty()) recipe["instruction"] = prompts.text(chosen, "");
  return any;
}

}  // namespace

std::optional<Json> recipe_of_modules(const base::Checkpoint& checkpoint) {
  if (!base::is_present(checkpoint / "modules.json")) return std::nullopt;
  const std::string kind = optional_object(checkpoint / "config_sentence_transformers.json")
                               .text("model_type", "SentenceTransformer");
  if (kind != "SentenceTransformer") return std::nullopt;
  const Modules modules = read_modules(checkpoint);
  const auto settings_file = checkpoint / "sentence_bert_config.json";
  const JsonObject settings = optional_object(settings_file);
  if (settings.flag("do_lower_case", false)) refuse(settings_file, "texts in lower case (do_lower_case)");
  if (settings.has("query_expansion")) refuse(settings_file, "an expansion of queries (query_expansion)");
  Json recipe = {{"name", "sentence-transformers"},
                 {"description", "As modules.json and the files that it names say."}};
  const bool prompts = read_prompts(checkpoint, recipe);
  if (settings.object("modality_config").has("message")) {
    const JsonObject chat = settings.object("processing_kwargs").object("chat_template");
    recipe["prompt"] = {{"system", "{instruction}"},
                        {"user", "{content}"},
                        {"generation_prompt", chat.flag("add_generation_prompt", false)}};
  } else {
    if (prompts && !modules.prompt_pooled && modules.pooling == "mean")
      refuse(checkpoint / "modules.json", "a mean without the prompt's tokens (include_prompt)");
    // Between what the tokenizer puts before and behind a text.
    recipe["prompt"] = {{"style", "raw"}, {"raw", "{media}{instruction}{text}"}};
  }
  recipe["pooling"] = modules.pooling;
  recipe["normalize"] = modules.normalize;
  if (!modules.projections.empty()) recipe["projection"] = modules.projections;
  const std::int64_t limit = max_length(checkpoint, settings);
  if (limit < kMostTokens) recipe["max_length"] = limit;
  check_cuts(checkpoint, settings, limit < kMostTokens);
  return recipe;
}

}  // namespace tte::prompt
