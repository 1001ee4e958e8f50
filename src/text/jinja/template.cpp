#include "text/jinja/template.h"

#include "base/printable.h"
#include "text/jinja/interpreter.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

// What `action` returns; a failure is told with the template and the line where it happened.
template <typename Action>
auto located(const std::string& name, const int& line, Action action) {
  try {
    return action();
  } catch (const Failure& failure) {
    throw ModelError(fmt::format("{}, line {}: {}.", base::printable(name, 200), line, failure.what()));
  }
}

}  // namespace

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  int line = 1;
  program_ = located(name_, line, [&] { return std::make_shared<const Program>(parse(source, line)); });
}

std::string Template::render(const std::vector<std::pair<std::string, Value>>& variables) const {
  Interpreter run(variables);
  return located(name_, run.line(), [&] { return run.run(program_->body); });
}

const std::string& Template::literals() const {
  return program_->literals;
}

}  // namespace tte::text::jinja
