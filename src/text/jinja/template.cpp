#include "text/jinja/template.h"

#include <fmt/core.h>

#include "base/printable.h"
#include "text/jinja/interpreter.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

constexpr std::size_t kMaxSource = std::size_t{4} << 20;

Body parse_bounded(std::string_view source, const std::string& name) {
  if (source.size() > kMaxSource) {
    throw ModelError(fmt::format("{}: a template of {} bytes is too long, at most {} are read.",
                                 base::printable(name, 200), source.size(), kMaxSource));
  }
  return parse(source, name);
}

}  // namespace

Template::Template(std::string_view source, std::string name)
    : name_(std::move(name)), body_(parse_bounded(source, name_)), literals_(literal_text(body_)) {}

std::string Template::render(const std::vector<std::pair<std::string, Value>>& variables) const {
  return Interpreter(name_, variables).run(body_);
}

}  // namespace tte::text::jinja
