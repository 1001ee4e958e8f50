#include "prompt/find_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/checkpoint_name.h"
#include "base/file.h"
#include "base/json.h"
#include "base/logging.h"
#include "base/printable.h"
#include "prompt/sentence_transformers.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;
using base::JsonObject;

constexpr std::uintmax_t kMostRequest = 64 << 10;  // Bytes of a request_file.

std::string bundled_names() {
  std::vector<std::string> names;
  for (const auto& [name, json] : bundled_recipes()) names.push_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

// `changes` over `json`, object by object; null takes a key away (RFC 7396).
void merge(Json& json, const Json& changes) {
  for (const auto& [key, value] : changes.items()) {
    if (value.is_null()) {
      json.erase(key);
    } else if (value.is_object() && json.contains(key) && json[key].is_object()) {
      merge(json[key], value);
    } else {
      json[key] = value;
    }
  }
}

Recipe read_recipe(const std::filesystem::path& file, std::string reason) {
  const std::string where = base::shown(file);
  Json json = base::read_json_object(file).json();
  if (json.contains("extends")) {
    const JsonObject object(json, where);
    const auto name = base::require<std::string>(object, "extends");
    if (!bundled_recipes().contains(name))
      object.reject("extends", fmt::format("it must be one of the bundled recipes: {}", bundled_names()));
    Json extended = base::parse_json(bundled_recipes().at(name), name);
    json.erase("extends");
    merge(extended, json);
    json = std::move(extended);
    reason += fmt::format(", which extends {}", name);
  }
  if (json.contains("prompt") && json["prompt"].is_object() && json["prompt"].contains("request_file")) {
    const auto name = base::require<std::string>(JsonObject(json["prompt"], where, "prompt"), "request_file");
    std::string text = base::read_file(file.parent_path() / name, kMostRequest);
    if (text.ends_with('\n')) text.pop_back();
    json["prompt"].erase("request_file");
    json["prompt"]["request"] = std::move(text);
  }
  Recipe out = parse_recipe(json, where);
  out.reason = std::move(reason);
  return out;
}

// Why `rule` fits the checkpoint; empty: it does not.
std::string why_fits(const AppliesTo& rule, const std::string& model_type, const std::string& name,
                     const CheckpointFiles& files) {
  const auto has = [&](const std::string& token) { return files.tokenizer->id_of(token).has_value(); };
  const auto begins = [&](const std::string& start) { return name.starts_with(start); };
  const auto in = [&](const std::vector<std::string>& list) {
    return std::find(list.begin(), list.end(), model_type) != list.end();
  };
  if (!rule.model_types.empty() && !in(rule.model_types)) return {};
  if (!rule.names.empty() && std::none_of(rule.names.begin(), rule.names.end(), begins)) return {};
  if (!std::all_of(rule.tokens.begin(), rule.tokens.end(), has)) return {};
  if (std::any_of(rule.without_tokens.begin(), rule.without_tokens.end(), has)) return {};
  std::vector<std::string> reasons;
  if (!rule.model_types.empty()) reasons.push_back("its model_type is " + model_type);
  if (!rule.names.empty()) reasons.push_back(fmt::format("its name is {}", base::printable(name, 80)));
  if (!rule.tokens.empty())
    reasons.push_back(fmt::format("its tokenizer has {}", fmt::join(rule.tokens, ", ")));
  return fmt::format("found: {}", fmt::join(reasons, ", "));
}

Recipe read_named(const std::string& wanted) {
  if (bundled_recipes().contains(wanted)) {
    Recipe out = bundled_recipe(wanted);
    out.reason = "given by name";
    return out;
  }
  if (!base::is_present(wanted)) {
    throw ModelError(fmt::format("The recipe \"{}\" is neither a file nor one of the bundled recipes: {}.",
                                 base::printable(wanted), bundled_names()));
  }
  return read_recipe(wanted, fmt::format("given as the file {}", base::shown(std::filesystem::path(wanted))));
}

// The recipe of a checkpoint without a recipe.json, for which nobody named one.
Recipe fitting_recipe(const base::Checkpoint& checkpoint, const CheckpointFiles& files) {
  const std::string model_type = base::read_json_object(checkpoint / "config.json").text("model_type", "");
  const std::string name = base::name_of(checkpoint.folder());
  std::vector<Recipe> fitting;
  for (const auto& [bundled, json] : bundled_recipes()) {
    Recipe recipe = bundled_recipe(bundled);
    if (recipe.applies_to) recipe.reason = why_fits(*recipe.applies_to, model_type, name, files);
    if (!recipe.reason.empty()) fitting.push_back(std::move(recipe));
  }
  if (fitting.size() > 1) {
    throw ModelError(fmt::format("The recipes {} and {} both fit {}: say which of them is meant.",
                                 fitting[0].name, fitting[1].name, base::shown(checkpoint.folder())));
  }
  if (!fitting.empty()) return std::move(fitting.front());
  if (const auto derived = recipe_of_modules(checkpoint)) {
    const std::string where = base::shown(checkpoint / "modules.json");
    Recipe out = parse_recipe(*derived, where);
    out.reason = "derived from the sentence-transformers files (modules.json)";
    return out;
  }
  // There is nothing to say of a model that only goes on from texts.
  if (files.chat_template) {
    base::warn_once(
        fmt::format("No recipe fits {}: its chat template, the last token and L2 are in force. The recipe "
                    "\"raw\" says so "
                    "on purpose; `tte info` shows more.",
                    base::shown(checkpoint.folder(), 200)));
  }
  Recipe raw = bundled_recipe(files.chat_template ? "raw" : "plain");
  raw.reason = "no recipe fits this checkpoint";
  return raw;
}

Recipe with_options(Recipe recipe, const TemplateOptions& options) {
  if (options.empty()) return recipe;
  Json json = recipe.source;
  Json& variables = json["prompt"]["template_options"];
  for (const auto& [name, option] : options)
    variables[name] = std::visit([](const auto& value) { return Json(value); }, option);
  Recipe out = parse_recipe(json, fmt::format("template_options of the recipe {}", recipe.name));
  out.name = std::move(recipe.name);
  out.visuals.recipe = out.name;
  out.reason = std::move(recipe.reason);
  return out;
}

}  // namespace

Recipe named_recipe(const std::string& wanted, const TemplateOptions& options) {
  return with_options(read_named(wanted), options);
}

Recipe find_recipe(const base::Checkpoint& checkpoint, const CheckpointFiles& files,
                   const std::string& wanted, const TemplateOptions& options) {
  if (!wanted.empty()) return named_recipe(wanted, options);
  const std::filesystem::path own = checkpoint / "recipe.json";
  return with_options(base::is_present(own) ? read_recipe(own, "recipe.json of the checkpoint")
                                            : fitting_recipe(checkpoint, files),
                      options);
}

}  // namespace tte::prompt
