// The tests and global functions of chat templates, and how all that has a name is called.
#include "text/jinja/builtins.h"

#include <algorithm>
#include <ctime>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

bool is_text(const Value& value) {
  return value.text() != nullptr || value.markup() != nullptr;
}
bool is_iterable(const Value& value) {
  return is_text(value) || value.dict() != nullptr || value.list() != nullptr || value.is_undefined();
}
template <bool kTruth>
bool is_bool(const Value& value) {
  return value.as<bool>() != nullptr && *value.as<bool>() == kTruth;
}

template <bool (*kIs)(const Value&)>
Value t_is(const Call& c) {
  return kIs(c.input);
}
Value t_sequence(const Call& c) {
  const List* list = c.input.list();
  if (list != nullptr && list->kind == List::Kind::kView) c.refuse_input();
  return list != nullptr ? list->plain() : is_iterable(c.input);
}
template <char kOp>
Value t_compare(const Call& c) {
  return compares(c.run, kOp == 'i' ? "in" : std::string{kOp, '='}, c.input, *c.get(0));
}

constexpr Builtin kTests[] = {
    {"defined", t_is<[](const Value& v) { return !v.is_undefined(); }>},
    {"undefined", t_is<[](const Value& v) { return v.is_undefined(); }>},
    {"none", t_is<[](const Value& v) { return v.is_none(); }>},
    {"string", t_is<is_text>},
    {"mapping", t_is<[](const Value& v) { return v.dict() != nullptr; }>},
    {"iterable", t_is<is_iterable>},
    {"sequence", t_sequence},
    {"number", t_is<[](const Value& v) { return v.integer().has_value(); }>},
    {"integer", t_is<[](const Value& v) { return v.as<std::int64_t>() != nullptr; }>},
    {"float", t_is<[](const Value&) { return false; }>},
    {"boolean", t_is<[](const Value& v) { return v.as<bool>() != nullptr; }>},
    {"true", t_is<is_bool<true>>},
    {"false", t_is<is_bool<false>>},
    {"in", t_compare<'i'>, {"seq"}, 1},
    {"equalto", t_compare<'='>, {""}, 1},
    {"eq", t_compare<'='>, {""}, 1},
    {"ne", t_compare<'!'>, {""}, 1},
};

Value g_range(const Call& c) {
  const std::int64_t begin = c.get(1) == nullptr ? 0 : c.integer(0, 0);
  const std::int64_t end = c.integer(c.get(1) == nullptr ? 0 : 1, 0);
  const std::int64_t by = c.integer(2, 1);
  if (by == 0) throw Failure("the step of a range is 0");
  List out(List::Kind::kView);
  for (std::int64_t i = begin; by > 0 ? i < end : i > end;) {
    if (out.size() == Interpreter::kMaxRange) {
      throw Failure(fmt::format("a range has more than {} items", Interpreter::kMaxRange));
    }
    out.emplace_back(i);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  return c.run.made(std::move(out));
}
Value g_namespace(const Call& c) {
  if (!c.arguments.positional.empty()) refuse("namespace of anything but named arguments");
  auto names = c.run.make_namespace();
  for (const auto& [key, value] : c.arguments.named) put(c.run, *names, key, value);
  return names;
}
Value g_raise_exception(const Call& c) {
  throw InputError(
      fmt::format("The chat template refuses these messages: {}", base::printable(str(*c.get(0)), 300)));
}
Value g_strftime_now(const Call& c) {
  static constexpr std::string_view kLetters = "aAbBcdHIjmMpSUwWxXyYDeFGghklnrRtTuVC%";
  const std::string& format = c.text(0);
  if (format.empty()) return "";
  for (std::size_t at = format.find('%'); at != std::string::npos; at = format.find('%', at + 2)) {
    const std::string letter = format.substr(at + 1, 1);
    if (!letter.empty() && kLetters.find(letter) != std::string_view::npos) continue;
    refuse(fmt::format("strftime_now(\"%{}\")", base::printable(letter)));
  }
  if (format.find('\0') != std::string::npos) refuse("strftime_now() with a zero byte");
  const std::time_t seconds = std::time(nullptr);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 1024> buffer{};
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0) refuse("so long a format of strftime_now()");
  return c.run.made(std::string(buffer.data(), size));
}

constexpr Builtin kGlobals[] = {
    {"range", g_range, {"", "", ""}, 1},
    {"namespace", g_namespace, {}, 0, true},
    {"raise_exception", g_raise_exception, {"message"}, 1},
    {"strftime_now", g_strftime_now, {"format"}, 1},
};

// The arguments of a call by the parameters that they are for.
void bind(Call& call, const Builtin& builtin) {
  const auto& names = builtin.parameters;
  const auto end = std::find(names.begin(), names.end(), nullptr);
  const auto& positional = call.arguments.positional;
  if (positional.size() > static_cast<std::size_t>(end - names.begin())) {
    refuse(fmt::format("{} with {} arguments", call.name, positional.size()));
  }
  for (std::size_t i = 0; i < positional.size(); ++i) call.bound[i] = &positional[i];
  for (const auto& [key, value] : call.arguments.named) {
    const auto at = static_cast<std::size_t>(std::find(names.begin(), end, key) - names.begin());
    if (names.begin() + at == end || call.bound[at] != nullptr) {
      refuse(fmt::format("{} with an argument {}", call.name, base::printable(key, 60)));
    }
    call.bound[at] = &value;
  }
  for (std::size_t i = 0; i < builtin.required; ++i) {
    if (call.bound[i] == nullptr) throw Failure(fmt::format("{} lacks its argument {}", call.name, i + 1));
  }
}

}  // namespace

const Builtin* find_builtin(std::span<const Builtin> all, std::string_view name) {
  const auto known = std::find_if(all.begin(), all.end(), [&](const Builtin& b) { return b.name == name; });
  return known == all.end() ? nullptr : &*known;
}
const Builtin* find_test(std::string_view name) {
  return find_builtin(kTests, name);
}

std::vector<std::pair<std::string, Value>> global_functions() {
  std::vector<std::pair<std::string, Value>> out;
  for (const Builtin& global : kGlobals) {
    out.emplace_back(global.name, std::make_shared<const Function>(Function{&global, nullptr}));
  }
  return out;
}

Value invoke(Interpreter& run, const Builtin& builtin, const Value& input, const Arguments& arguments) {
  const Interpreter::Level level(run, run.line());
  run.budget.step();
  if (input.text() != nullptr) run.budget.work(input.text()->size());
  Call call{run, builtin.name, input, arguments};
  if (!builtin.any) bind(call, builtin);
  return builtin.function(call);
}

void put(Interpreter& run, Dict& dict, const std::string& key, Value value) {
  run.budget.take(1, key.size() + sizeof(Value));
  run.budget.step(1 + static_cast<std::int64_t>(dict.items.size()) / 16);
  dict.set(key, std::move(value));
}

}  // namespace tte::text::jinja
