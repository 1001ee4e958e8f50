// The tests, methods and global functions of chat templates.
#include "text/jinja/builtins.h"

#include <algorithm>
#include <ctime>
#include <span>

#include "base/printable.h"
#include "text/jinja/strings.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

bool is_text(const Value& value) {
  return value.text() != nullptr || value.markup() != nullptr;
}
Value t_sequence(const Call& c) {
  if (c.input.list() != nullptr && c.input.list()->kind == List::Kind::kView) c.refuse_input();
  return is_text(c.input) || c.input.dict() != nullptr || c.input.is_undefined() ||
         (c.input.list() != nullptr && c.input.list()->plain());
}
template <bool kValue>
Value t_bool(const Call& c) {
  return c.input.as<bool>() != nullptr && *c.input.as<bool>() == kValue;
}
template <std::int64_t kRest>
Value t_rest_of_two(const Call& c) {
  if (!c.input.integer()) c.refuse_input();
  return *c.input.integer() % 2 != 0 ? kRest == 1 : kRest == 0;
}
template <char kOp>
Value t_compare(const Call& c) {
  return compares(c.run, kOp == 'i' ? "in" : std::string{kOp, '='}, c.input, *c.get(0));
}

constexpr Builtin kTests[] = {
    {"defined", [](const Call& c) -> Value { return !c.input.is_undefined(); }},
    {"undefined", [](const Call& c) -> Value { return c.input.is_undefined(); }},
    {"none", [](const Call& c) -> Value { return c.input.is_none(); }},
    {"string", [](const Call& c) -> Value { return is_text(c.input); }},
    {"mapping", [](const Call& c) -> Value { return c.input.dict() != nullptr; }},
    {"iterable",
     [](const Call& c) -> Value {
       return is_text(c.input) || c.input.dict() != nullptr || c.input.is_undefined() ||
              c.input.list() != nullptr;
     }},
    {"sequence", t_sequence},
    {"number", [](const Call& c) -> Value { return c.input.integer().has_value(); }},
    {"integer", [](const Call& c) -> Value { return c.input.as<std::int64_t>() != nullptr; }},
    {"float", [](const Call&) -> Value { return false; }},
    {"boolean", [](const Call& c) -> Value { return c.input.as<bool>() != nullptr; }},
    {"true", t_bool<true>},
    {"false", t_bool<false>},
    {"odd", t_rest_of_two<1>},
    {"even", t_rest_of_two<0>},
    {"in", t_compare<'i'>, {"seq"}, 1},
    {"equalto", t_compare<'='>, {""}, 1},
    {"eq", t_compare<'='>, {""}, 1},
    {"ne", t_compare<'!'>, {""}, 1},
};

Value list_of(const Call& c, const std::vector<std::string_view>& parts) {
  List out;
  c.run.budget.take(parts.size(), sizeof(Value));
  for (const std::string_view part : parts) out.push_back(c.run.made(std::string(part)));
  return out;
}
// Before `what` is looked for: in the worst case it almost fits everywhere.
void pay_for_search(const Call& c, const std::string& what) {
  c.run.budget.work(c.input.text()->size() * std::min<std::size_t>(what.size() + 1, 1 << 20), 4096);
}

template <bool kLeft, bool kRight>
Value m_strip(const Call& c) {
  return c.run.made(std::string(strip(*c.input.text(), c.text_or_none(0), kLeft, kRight)));
}
template <std::string (*kFunction)(std::string_view)>
Value m_case(const Call& c) {
  c.run.budget.work(c.input.text()->size(), 16);
  return c.run.made(kFunction(*c.input.text()));
}
template <bool kRight>
Value m_split(const Call& c) {
  const std::string* separator = c.text_or_none(0);
  if (separator != nullptr && separator->empty()) throw Failure("the separator of split() is empty");
  if (separator != nullptr) pay_for_search(c, *separator);
  return list_of(c, split(c.run.budget, *c.input.text(), separator, c.integer(1, -1), kRight));
}
template <bool kStart>
bool has_affix(const Call& c) {
  return kStart ? c.input.text()->starts_with(c.text(0)) : c.input.text()->ends_with(c.text(0));
}
template <bool kStart>
Value m_affix(const Call& c) {
  return has_affix<kStart>(c);
}
template <bool kStart>
Value m_remove_affix(const Call& c) {
  if (!has_affix<kStart>(c)) return c.input;
  const std::size_t rest = c.input.text()->size() - c.text(0).size();
  return c.run.made(c.input.text()->substr(kStart ? c.text(0).size() : 0, rest));
}
template <bool kLast>
Value m_find(const Call& c) {
  const std::string& s = *c.input.text();
  pay_for_search(c, c.text(0));
  const std::size_t at = kLast ? s.rfind(c.text(0)) : s.find(c.text(0));
  return at == std::string::npos ? std::int64_t{-1} : length(std::string_view(s).substr(0, at));
}
Value m_count(const Call& c) {
  const std::string& s = *c.input.text();
  const std::string& what = c.text(0);
  if (what.empty()) return length(s) + 1;
  pay_for_search(c, what);
  std::int64_t n = 0;
  for (std::size_t at = s.find(what); at != std::string::npos; at = s.find(what, at + what.size())) ++n;
  return n;
}
Value m_replace(const Call& c) {
  return c.run.made(replace(c.run.budget, *c.input.text(), c.text(0), c.text(1), c.integer(2, -1)));
}
Value m_join(const Call& c) {
  std::string out;
  bool first = true;
  for (const Value& item : c.run.items_of(*c.get(0))) {
    if (item.text() == nullptr) refuse(fmt::format("join() of a {}", item.type_name()));
    append(c.run.budget, out, std::exchange(first, false) ? "" : *c.input.text(), *item.text());
  }
  return c.run.made(std::move(out));
}
Value m_get(const Call& c) {
  if (c.get(0)->list() != nullptr || c.get(0)->dict() != nullptr) c.refuse_argument(0);
  const Value* found = c.get(0)->text() == nullptr ? nullptr : c.input.dict()->find(*c.get(0)->text());
  return found != nullptr ? *found : c.get(1) != nullptr ? *c.get(1) : Value(None{});
}
template <bool kKeys, bool kValues>
Value m_view(const Call& c) {
  List out(List::Kind::kView);
  for (const auto& [key, value] : c.input.dict()->items) {
    if (kKeys && kValues) {
      List pair(List::Kind::kTuple);
      pair.assign({c.run.made(key), value});
      out.push_back(c.run.made(std::move(pair)));
    } else {
      out.push_back(kKeys ? c.run.made(key) : value);
    }
  }
  return c.run.made(std::move(out));
}

constexpr Builtin kMethods[] = {
    {"strip", m_strip<true, true>, {""}},
    {"lstrip", m_strip<true, false>, {""}},
    {"rstrip", m_strip<false, true>, {""}},
    {"upper", m_case<upper>},
    {"lower", m_case<lower>},
    {"title", m_case<title>},
    {"capitalize", m_case<capitalize>},
    {"split", m_split<false>, {"sep", "maxsplit"}},
    {"rsplit", m_split<true>, {"sep", "maxsplit"}},
    {"splitlines",
     [](const Call& c) -> Value { return list_of(c, split_lines(c.run.budget, *c.input.text())); }},
    {"startswith", m_affix<true>, {""}, 1},
    {"endswith", m_affix<false>, {""}, 1},
    {"removeprefix", m_remove_affix<true>, {""}, 1},
    {"removesuffix", m_remove_affix<false>, {""}, 1},
    {"find", m_find<false>, {""}, 1},
    {"rfind", m_find<true>, {""}, 1},
    {"count", m_count, {""}, 1},
    {"replace", m_replace, {"", "", ""}, 2},
    {"join", m_join, {""}, 1},
    {"get", m_get, {"", ""}, 1, false, true},
    {"items", m_view<true, true>, {}, 0, false, true},
    {"keys", m_view<true, false>, {}, 0, false, true},
    {"values", m_view<false, true>, {}, 0, false, true},
};

void fill(const Call& c, Dict& dict) {
  if (!c.arguments.positional.empty()) refuse(fmt::format("{} of anything but named arguments", c.name));
  for (const auto& [key, value] : c.arguments.named) {
    c.run.budget.take(1, key.size() + sizeof(Value));
    c.run.budget.step(1 + static_cast<std::int64_t>(dict.items.size()) / 16);
    dict.set(key, value);
  }
}
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
Value g_dict(const Call& c) {
  Dict dict;
  fill(c, dict);
  return dict;
}
Value g_namespace(const Call& c) {
  auto names = c.run.make_namespace();
  fill(c, *names);
  return names;
}
Value g_raise_exception(const Call& c) {
  throw InputError(fmt::format("The chat template refuses these messages: {}",
                               base::printable(c.run.text_of(*c.get(0)), 300)));
}
Value g_strftime_now(const Call& c) {
  const std::string& format = c.text(0);
  if (format.empty()) return "";
  for (std::size_t at = format.find('%'); at != std::string::npos; at = format.find('%', at + 2)) {
    const char letter = at + 1 < format.size() ? format[at + 1] : '\0';
    if (letter == '\0' ||
        std::string_view("aAbBcdHIjmMpSUwWxXyYDeFGghklnrRtTuVC%").find(letter) == std::string_view::npos) {
      refuse(fmt::format("strftime_now(\"%{}\")", base::printable(std::string(1, letter))));
    }
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
    {"dict", g_dict, {}, 0, true},
    {"namespace", g_namespace, {}, 0, true},
    {"raise_exception", g_raise_exception, {"message"}, 1},
    {"strftime_now", g_strftime_now, {"format"}, 1},
};

}  // namespace

const Builtin* find_builtin(std::span<const Builtin> all, std::string_view name) {
  const auto known = std::find_if(all.begin(), all.end(), [&](const Builtin& b) { return b.name == name; });
  return known == all.end() ? nullptr : &*known;
}
const Builtin* find_test(std::string_view name) {
  return find_builtin(kTests, name);
}
const Builtin* find_method(std::string_view name) {
  return find_builtin(kMethods, name);
}

std::vector<std::pair<std::string, Value>> global_functions() {
  std::vector<std::pair<std::string, Value>> out;
  for (const Builtin& global : kGlobals) {
    out.emplace_back(global.name, std::make_shared<const Function>(
                                      Function{std::string(global.name), &global, nullptr, {}}));
  }
  return out;
}

Value invoke(Interpreter& run, const Builtin& builtin, const Value& input, const Arguments& arguments) {
  const Interpreter::Level level(run, run.line());
  run.budget.step();
  if (input.text() != nullptr) run.budget.work(input.text()->size());
  Call call{run, builtin.name, input, arguments};
  if (builtin.any) return builtin.function(call);
  const auto& names = builtin.parameters;
  const auto size = static_cast<std::size_t>(std::find(names.begin(), names.end(), nullptr) - names.begin());
  if (arguments.positional.size() > size) {
    refuse(fmt::format("{} with {} arguments", builtin.name, arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) call.bound[i] = &arguments.positional[i];
  for (const auto& [key, value] : arguments.named) {
    const auto at = static_cast<std::size_t>(
        std::find_if(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(size),
                     [&, k = &key](const char* name) { return *k == name; }) -
        names.begin());
    if (at == size || call.bound[at] != nullptr) {
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
