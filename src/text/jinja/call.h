// What a filter or a test is called with.
#pragma once

#include <fmt/core.h>

#include <memory>
#include <string>
#include <string_view>

#include "text/jinja/interpreter.h"

namespace tte::text::jinja {

// One call of a filter or test.
struct Call {
  Interpreter& run;
  const std::string& name;
  const Value& input;
  const Arguments& arguments;
  int line;

  [[noreturn]] void fail(const std::string& what) const { run.fail(line, fmt::format("{}: {}", name, what)); }
  [[nodiscard]] const Value* get(std::size_t index, std::string_view key) const {
    return arguments.get(index, key);
  }
  [[nodiscard]] const Value& need(std::size_t index, std::string_view key) const {
    const Value* value = get(index, key);
    if (value == nullptr) fail(fmt::format("argument {} is missing", index + 1));
    return *value;
  }
  [[nodiscard]] bool flag(std::size_t index, std::string_view key, bool fallback) const {
    const Value* value = get(index, key);
    return value == nullptr ? fallback : value->truthy();
  }
  [[nodiscard]] std::int64_t integer(std::size_t index, std::string_view key, std::int64_t fallback) const {
    const Value* value = get(index, key);
    std::int64_t out = fallback;
    if (value != nullptr && !value->is_none() && !value->integer(out))
      fail(fmt::format("{} is not an int", value->type_name()));
    return out;
  }
  // The input as text, as Jinja's filters for strings take it.
  [[nodiscard]] std::string text() const { return input.str(); }
  [[nodiscard]] std::shared_ptr<const List> items() const { return run.items_of(input, line); }
};

}  // namespace tte::text::jinja
