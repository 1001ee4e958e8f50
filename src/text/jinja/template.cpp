#include "text/jinja/template.h"

#include "text/jinja/interpreter.h"

namespace tte::text::jinja {

Template::Template(std::string_view source, std::string name)
    : name_(std::move(name)), program_(parse(source, name_)) {}

std::string Template::render(const std::vector<std::pair<std::string, Value>>& variables) const {
  return Interpreter(name_, variables).run(program_.body);
}

}  // namespace tte::text::jinja
