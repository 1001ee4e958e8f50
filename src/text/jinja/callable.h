// How functions and methods of chat templates are made, and how they read their arguments.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "text/jinja/interpreter.h"

namespace tte::text::jinja {

using Method = std::function<Value(Interpreter&, const Arguments&, int line)>;

Value bound(std::string name, Method method);

// Argument `index` (or the one called `name`) as a string; null if it is absent or None. Fails for another
// type.
const std::string* text_argument(Interpreter& run, const Arguments& arguments, std::size_t index,
                                 const char* name, int line);
// The same for one that must be there.
const std::string& needed_text(Interpreter& run, const Arguments& arguments, std::size_t index, int line);
std::int64_t integer_argument(Interpreter& run, const Arguments& arguments, std::size_t index,
                              const char* name, std::int64_t fallback, int line);

// The method of a string, or undefined.
Value string_method(const std::shared_ptr<const std::string>& text, const std::string& name);

}  // namespace tte::text::jinja
