// Reading JSON files strictly, with errors that name the file and the key.
//
// One reader for all of a checkpoint's files: a number is never cut to a whole one or to fewer bits, a
// boolean is not a number, and the keys of an object keep the order of the file.
#pragma once

#include <fmt/core.h>

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ordered_map.h"
#include "base/printable.h"
#include "tte/error.h"

namespace tte::base {

using Json = nlohmann::basic_json<OrderedMap>;

// Parses a text. Of a key that appears twice the last value counts, as in Python. Throws ModelError naming
// `where`, the line and the column when it is not JSON, or nests deeper than 512 levels.
Json parse_json(std::string_view text, const std::string& where);

// What is wrong with a text, in nlohmann's words without its preamble; fit for a message.
std::string json_reason(const nlohmann::detail::exception& error);

// Parses a whole file (at most 256 MB). Throws ModelError naming the file when it is missing, not a regular
// file, too large or not JSON.
Json read_json(const std::filesystem::path& file);

// A value as text of at most `limit` bytes, fit for a message.
std::string shown(const Json& value, std::size_t limit = 80);

// The whole number that `value` is, if it is one within [least, most].
std::optional<std::int64_t> whole_number(const Json& value,
                                         std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                                         std::int64_t most = std::numeric_limits<std::int64_t>::max());

// `value` as T (bool, std::string, double, an integer type, or a vector of those), if it is just that.
template <typename T>
std::optional<T> strict_cast(const Json& value) {
  if constexpr (std::same_as<T, bool>) {
    return value.is_boolean() ? std::optional<T>(value.get<bool>()) : std::nullopt;
  } else if constexpr (std::same_as<T, std::string>) {
    return value.is_string() ? std::optional<T>(value.get<std::string>()) : std::nullopt;
  } else if constexpr (std::floating_point<T>) {
    return value.is_number() ? std::optional<T>(value.get<T>()) : std::nullopt;
  } else if constexpr (std::integral<T>) {
    const auto number = whole_number(value, std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
    return number ? std::optional<T>(static_cast<T>(*number)) : std::nullopt;
  } else {
    if (!value.is_array()) return std::nullopt;
    T list;
    for (const Json& item : value) {
      auto cast = strict_cast<typename T::value_type>(item);
      if (!cast) return std::nullopt;
      list.push_back(std::move(*cast));
    }
    return list;
  }
}

// What a T is called in a message.
template <typename T>
constexpr const char* name_of_type() {
  if constexpr (std::same_as<T, bool>) return "true or false";
  if constexpr (std::same_as<T, std::string>) return "a string";
  if constexpr (std::floating_point<T>) return "a number";
  if constexpr (std::integral<T> && sizeof(T) < 8) return "a whole number of 32 bits";
  if constexpr (std::integral<T>) return "a whole number";
  if constexpr (std::same_as<T, std::vector<std::string>>) return "a list of strings";
  if constexpr (std::same_as<T, std::vector<std::int64_t>>) return "a list of whole numbers";
  return "a list of numbers";
}

// One object of a file. A key that is absent or null gives the fallback. Every function throws ModelError
// naming the file, the key and its value when the value is of another type or out of range.
class JsonObject {
 public:
  // `where` is the file, or what else the error shall name; `path` leads to the object within it: "" or
  // "text_config". The first form borrows `json`, the second owns it. Throws ModelError for another value
  // than an object.
  JsonObject(const Json& json, std::string where, std::string path = "");
  JsonObject(Json&& json, std::string where, std::string path = "");

  [[nodiscard]] const Json* find(const std::string& key) const;  // Null when absent or null.
  [[nodiscard]] bool has(const std::string& key) const { return find(key) != nullptr; }
  [[nodiscard]] const Json& json() const { return *json_; }

  // Within [least, most].
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t fallback, std::int64_t least,
                                     std::int64_t most) const;
  // Within (above, below), both excluded.
  [[nodiscard]] double number(const std::string& key, double fallback, double above, double below) const;
  [[nodiscard]] bool flag(const std::string& key, bool fallback) const;
  [[nodiscard]] std::string text(const std::string& key, const std::string& fallback) const;
  // Each within [least, most].
  [[nodiscard]] std::vector<std::int64_t> integers(
      const std::string& key, const std::vector<std::int64_t>& fallback,
      std::int64_t least = std::numeric_limits<std::int64_t>::min(),
      std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  [[nodiscard]] std::vector<std::string> texts(const std::string& key) const;  // Empty when absent.
  // The place of the value among `names`.
  [[nodiscard]] std::optional<std::size_t> choice(const std::string& key,
                                                  std::initializer_list<std::string_view> names) const;
  // The object at `key`; an empty one when absent. Must not outlive this one's JSON.
  [[nodiscard]] JsonObject object(const std::string& key) const;

  // The same, if there is a value.
  [[nodiscard]] std::optional<std::int64_t> integer(const std::string& key, std::int64_t least,
                                                    std::int64_t most) const;
  [[nodiscard]] std::optional<double> number(const std::string& key) const;

  // Throws ModelError for a key that is none of `known`.
  void allow_only(const std::vector<std::string_view>& known) const;

  // Throws ModelError: "<where>: "<path.key>" is <value>: <why>."
  [[noreturn]] void reject(const std::string& key, const std::string& why) const;
  // Throws ModelError: "<where>: "<path.key>" <what>."
  [[noreturn]] void fail(const std::string& key, const std::string& what) const;

  [[nodiscard]] std::string below(std::string_view key) const;  // "path.key"
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  void check_object() const;
  std::shared_ptr<const Json> json_;
  std::string where_, path_;
};

// As read_json(), for a file that holds an object. Throws ModelError when it holds something else.
JsonObject read_json_object(const std::filesystem::path& file);

// object[key] as a T. Throws ModelError when it is absent or of another type.
template <typename T>
T require(const JsonObject& object, const std::string& key) {
  const Json* found = object.find(key);
  if (found == nullptr && !object.json().contains(key)) object.fail(key, "is missing, and tte needs it");
  auto value = found == nullptr ? std::nullopt : strict_cast<T>(*found);
  if (!value) object.reject(key, fmt::format("it must be {}", name_of_type<T>()));
  return std::move(*value);
}
// The same, but `fallback` when the key is absent or null.
template <typename T>
T get_or(const JsonObject& object, const std::string& key, T fallback) {
  return object.has(key) ? require<T>(object, key) : std::move(fallback);
}

}  // namespace tte::base
