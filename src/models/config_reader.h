// Reading config.json strictly: every number is checked where it is read, and errors name the key and the
// file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace tte::models {

// One object of a configuration file. Keys that are absent or null give the default, as transformers' configs
// do. Every function throws ModelError naming the key, its value and the file when the value is of another
// type or out of range.
class ConfigReader {
 public:
  // `path` is where the object is within `file`: "" or "text_config.".
  ConfigReader(const base::Json& json, std::string file, std::string path = "");

  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t fallback, std::int64_t least,
                                     std::int64_t most) const;
  // Within (above, below), both excluded.
  [[nodiscard]] double number(const std::string& key, double fallback, double above, double below) const;
  [[nodiscard]] bool flag(const std::string& key, bool fallback) const;
  [[nodiscard]] std::string text(const std::string& key, const std::string& fallback) const;
  [[nodiscard]] std::vector<std::int64_t> integers(const std::string& key,
                                                   const std::vector<std::int64_t>& fallback) const;
  [[nodiscard]] std::vector<std::string> texts(const std::string& key) const;  // Empty when absent.
  [[nodiscard]] bool has(const std::string& key) const;                        // Present and not null.
  // The object at `key`; an empty one when absent.
  [[nodiscard]] ConfigReader object(const std::string& key) const;

  // Throws ModelError: "<file>: "<key>" is <value>: <why>".
  [[noreturn]] void reject(const std::string& key, const std::string& why) const;

 private:
  [[nodiscard]] const base::Json* find(const std::string& key) const;
  base::Json json_;
  std::string file_, path_;
};

}  // namespace tte::models
