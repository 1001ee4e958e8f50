// A Jinja interpreter for chat templates: what published ones use of the language as transformers sets it up
// (trim_blocks, lstrip_blocks, loop controls, tojson, raise_exception, strftime_now, {% generation %}). Everything else
// is refused by name: when a template is parsed, or when it runs if it stands in a branch or a macro. Numbers are
// whole, dict keys are strings. Templates come from the internet: what they can do is bounded in time, memory and
// stack (interpreter.h).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace tte::text::jinja {

struct Program;

// Immutable and safe to use from many threads.
class Template {
 public:
  // Throws ModelError naming `name` (a file) and the line.
  Template(std::string_view source, std::string name);

  // Throws ModelError naming the line for what fails, InputError for raise_exception().
  [[nodiscard]] std::string render(const std::vector<std::pair<std::string, Value>>& variables) const;

  // The constant strings and the text between tags, joined by NUL.
  [[nodiscard]] const std::string& literals() const;

 private:
  std::string name_;
  std::shared_ptr<const Program> program_;
};

}  // namespace tte::text::jinja
