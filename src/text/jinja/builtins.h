// What templates call by name: the filters, tests, methods and global functions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/interpreter.h"

namespace tte::text::jinja {

struct Builtin;

// The "filter" or "test" called `name`; null if there is none.
const Builtin* find_builtin(std::string_view kind, std::string_view name);
bool has_method(std::string_view name);
// range, namespace, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> global_functions();

// Refuses arguments that the function does not have: nothing passed is ignored.
Value invoke(Interpreter& run, const Builtin& builtin, const Value& input, const Arguments& arguments);
Value call_method(Interpreter& run, const Value& object, const std::string& name, const Arguments& arguments);

}  // namespace tte::text::jinja
