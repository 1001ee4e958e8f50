// Filters, tests, methods and global functions: what they are called with, and that nothing passed is ignored.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/interpreter.h"

namespace tte::text::jinja {

// One call. What is not supported ends it with refuse().
struct Call {
  static constexpr std::size_t kMaxParameters = 4;

  Interpreter& run;
  std::string_view name;
  const Value& input;          // For a method: its object.
  const Arguments& arguments;  // All of them.
  std::array<const Value*, kMaxParameters> bound{};

  // Argument `index`; null if it was not passed or, where `none_too`, is None.
  [[nodiscard]] const Value* get(std::size_t index, bool none_too = false) const {
    const Value* value = bound[index];
    return value != nullptr && none_too && value->is_none() ? nullptr : value;
  }
  [[nodiscard]] bool flag(std::size_t index) const {
    return bound[index] != nullptr && bound[index]->truthy();
  }
  [[nodiscard]] std::int64_t integer(std::size_t index, std::int64_t fallback) const {
    if (bound[index] == nullptr) return fallback;
    const auto value = bound[index]->integer();
    if (!value) refuse_argument(index);
    return *value;
  }
  [[nodiscard]] const std::string& text(std::size_t index) const {
    if (bound[index]->text() == nullptr) refuse_argument(index);
    return *bound[index]->text();
  }
  // str(input), which is what filters of strings work on.
  [[nodiscard]] std::string input_text() const {
    if (input.markup() != nullptr) refuse_input();
    return str(input);
  }
  [[noreturn]] void refuse_input() const { refuse(fmt::format("{} of a {}", name, input.type_name())); }
  [[noreturn]] void refuse_argument(std::size_t index) const {
    refuse(fmt::format("{} with a {} as argument {}", name, bound[index]->type_name(), index + 1));
  }
};

struct Builtin {
  std::string_view name;
  Value (*function)(const Call&);
  std::array<const char*, Call::kMaxParameters> parameters{};  // "" where it is passed by position alone.
  std::size_t required = 0;
  bool any = false;  // The function reads its arguments itself.
};

// The one called `name`; null if there is none.
const Builtin* find_builtin(std::span<const Builtin> all, std::string_view name);
const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
bool has_method(std::string_view name);
// range, namespace, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> global_functions();

// Refuses arguments that the function does not have.
Value invoke(Interpreter& run, const Builtin& builtin, const Value& input, const Arguments& arguments);

Value call_method(Interpreter& run, const Value& object, const std::string& name, const Arguments& arguments);

// dict[key] = value, which is paid for.
void put(Interpreter& run, Dict& dict, const std::string& key, Value value);

}  // namespace tte::text::jinja
