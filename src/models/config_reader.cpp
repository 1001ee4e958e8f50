#include "models/config_reader.h"

#include <fmt/core.h>

#include <utility>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::models {

ConfigReader::ConfigReader(const base::Json& json, std::string file, std::string path)
    : json_(json), file_(std::move(file)), path_(std::move(path)) {
  if (json_.is_object()) return;
  throw ModelError(
      fmt::format("{}: {} is not a JSON object.", file_,
                  path_.empty() ? "the file" : fmt::format("\"{}\"", path_.substr(0, path_.size() - 1))));
}

const base::Json* ConfigReader::find(const std::string& key) const {
  const auto it = json_.find(key);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

bool ConfigReader::has(const std::string& key) const {
  return find(key) != nullptr;
}

void ConfigReader::reject(const std::string& key, const std::string& why) const {
  const base::Json* value = find(key);
  const std::string shown =
      value == nullptr ? "absent" : value->dump(-1, ' ', false, base::Json::error_handler_t::replace);
  throw ModelError(
      fmt::format("{}: \"{}{}\" is {}: {}.", file_, path_, key, base::printable(shown, 80), why));
}

std::int64_t ConfigReader::integer(const std::string& key, std::int64_t fallback, std::int64_t least,
                                   std::int64_t most) const {
  const base::Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number_integer()) reject(key, "tte expects a whole number");
  const auto number = value->get<std::int64_t>();
  const bool overflow = value->is_number_unsigned() && number < 0;
  if (overflow || number < least || number > most) {
    reject(key, fmt::format("it must be from {} to {}", least, most));
  }
  return number;
}

double ConfigReader::number(const std::string& key, double fallback, double above, double below) const {
  const base::Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) reject(key, "tte expects a number");
  const auto number = value->get<double>();
  if (!(number > above && number < below)) {
    reject(key, fmt::format("it must be greater than {} and less than {}", above, below));
  }
  return number;
}

bool ConfigReader::flag(const std::string& key, bool fallback) const {
  const base::Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) reject(key, "tte expects true or false");
  return value->get<bool>();
}

std::string ConfigReader::text(const std::string& key, const std::string& fallback) const {
  const base::Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) reject(key, "tte expects a string");
  return value->get<std::string>();
}

std::vector<std::int64_t> ConfigReader::integers(const std::string& key,
                                                 const std::vector<std::int64_t>& fallback) const {
  const base::Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_array()) reject(key, "tte expects a list of whole numbers");
  std::vector<std::int64_t> numbers;
  for (const base::Json& item : *value) {
    if (!item.is_number_integer()) reject(key, "tte expects a list of whole numbers");
    numbers.push_back(item.get<std::int64_t>());
  }
  return numbers;
}

std::vector<std::string> ConfigReader::texts(const std::string& key) const {
  const base::Json* value = find(key);
  std::vector<std::string> texts;
  if (value == nullptr) return texts;
  if (!value->is_array()) reject(key, "tte expects a list of strings");
  for (const base::Json& item : *value) {
    if (!item.is_string()) reject(key, "tte expects a list of strings");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

ConfigReader ConfigReader::object(const std::string& key) const {
  const base::Json* value = find(key);
  return {value == nullptr ? base::Json::object() : *value, file_, path_ + key + "."};
}

}  // namespace tte::models
