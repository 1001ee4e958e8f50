// Reading JSON files with errors that name the file and the key.
#pragma once

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::base {

using Json = nlohmann::json;

// Parses a text. Of a key that appears twice the last value counts, as in Python. Throws ModelError naming
// `where`, the line and the column when it is not JSON, or nests deeper than 512 levels.
Json parse_json(std::string_view text, const std::string& where);

// What is wrong with a text, in nlohmann's words without its preamble; fit for a message.
std::string json_reason(const nlohmann::detail::exception& error);

// Parses a whole file (at most 256 MB). Throws ModelError naming the file when it is missing, too large or
// not JSON.
Json read_json(const std::filesystem::path& file);

// json[key] converted to T. Throws ModelError naming `where` (a file) and the key when absent or of another
// type.
template <typename T>
T require(const Json& json, const std::string& key, const std::string& where) {
  const auto it = json.find(key);
  if (it == json.end()) throw ModelError(fmt::format("{} has no key \"{}\", which tte needs.", where, key));
  try {
    return it->get<T>();
  } catch (const Json::exception&) {
    throw ModelError(fmt::format("{}: \"{}\" is {}, which is not of the type that tte expects.", where, key,
                                 printable(it->dump(-1, ' ', false, Json::error_handler_t::replace), 80)));
  }
}

// json[key] converted to T, or `fallback` when the key is absent or null. Still throws on another type.
template <typename T>
T get_or(const Json& json, const std::string& key, T fallback, const std::string& where) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return fallback;
  return require<T>(json, key, where);
}

}  // namespace tte::base
