#include "text/jinja/call.h"

#include <algorithm>

#include "base/printable.h"

namespace tte::text::jinja {

const Builtin* find_builtin(std::span<const Builtin> all, std::string_view name) {
  const auto known = std::find_if(all.begin(), all.end(), [&](const Builtin& b) { return b.name == name; });
  return known == all.end() ? nullptr : &*known;
}

Value invoke(Interpreter& run, const Builtin& builtin, const Value& input, const Arguments& arguments) {
  const Interpreter::Level level(run, run.line());
  run.budget.step();
  if (input.text() != nullptr) run.budget.work(input.text()->size());
  Call call{run, builtin.name, input, arguments};
  if (builtin.any) return builtin.function(call);
  const auto& names = builtin.parameters;
  const std::size_t size =
      static_cast<std::size_t>(std::find(names.begin(), names.end(), nullptr) - names.begin());
  if (arguments.positional.size() > size) {
    refuse(fmt::format("{} with {} arguments", builtin.name, arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) call.bound[i] = &arguments.positional[i];
  for (const auto& [key, value] : arguments.named) {
    const auto at = static_cast<std::size_t>(
        std::find_if(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(size),
                     [&, k = &key](const char* name) { return *k == name; }) -
        names.begin());
    if (!builtin.by_name || at == size || call.bound[at] != nullptr) {
      refuse(fmt::format("{} with an argument {}", builtin.name, base::printable(key, 60)));
    }
    call.bound[at] = &value;
  }
  for (std::size_t i = 0; i < builtin.required; ++i) {
    if (call.bound[i] == nullptr) throw Failure(fmt::format("{} lacks its argument {}", builtin.name, i + 1));
  }
  return builtin.function(call);
}

}  // namespace tte::text::jinja
