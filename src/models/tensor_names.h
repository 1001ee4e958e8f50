// What tensors are called: of all generations of transformers, as its first one has them.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tte::models {

// What the names of a vision tower's tensors begin with.
inline constexpr const char* kVisionPrefix = "visual.";

// A family's names into "model.", "lm_head." and kVisionPrefix, as weights::Naming has them; nullopt for one that
// stays.
using Rename = std::function<std::optional<std::string>(std::string_view)>;

// `name` with its beginning replaced by the first rule {from, to} that fits; nullopt where none does.
using PrefixRule = std::pair<std::string_view, std::string_view>;
std::optional<std::string> replace_prefix(std::string_view name, std::span<const PrefixRule> rules);

// What most families have:
//   model.visual.*          -> visual.*  (4.52 and later, in memory; some repositories saved so)
//   model.language_model.*  -> model.*
//   language_model.*, embed_tokens.*, layers.*, norm.*  -> model.*  (a bare text model)
std::optional<std::string> first_generation(std::string_view name);

// `rename` of a name, also where transformers' class for late interaction stands around the model.
std::optional<std::string> renamed(const Rename& rename, std::string_view name);

}  // namespace tte::models
