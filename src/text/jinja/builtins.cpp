// The filters, tests, methods and global functions of chat templates. Where a filter and a method have the same name,
// they are mostly one function.
#include "text/jinja/builtins.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <map>
#include <span>

#include "base/json.h"
#include "base/printable.h"
#include "text/characters.h"
#include "tte/error.h"

namespace tte::text::jinja {

// One call. What is not supported ends it with refuse().
struct Call {
  Interpreter& run;
  std::string_view name;
  const Value& input;          // For a method: its object.
  const Arguments& arguments;  // All of them.
  std::vector<const Value*> bound;

  // Argument `index`; null if it was not passed or, where `none_too`, is None.
  [[nodiscard]] const Value* get(std::size_t index, bool none_too = false) const {
    const Value* value = bound[index];
    return value != nullptr && none_too && value->is_none() ? nullptr : value;
  }
  [[nodiscard]] bool flag(std::size_t index) const {
    return get(index, true) != nullptr && get(index)->truthy();
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
  [[noreturn]] void refuse_input() const { refuse("{} of a {}", name, input.type_name()); }
  [[noreturn]] void refuse_argument(std::size_t index) const {
    refuse("{} with a {} as argument {}", name, bound[index]->type_name(), index + 1);
  }
};

struct Builtin {
  std::string_view name;
  Value (*function)(const Call&);
  std::array<const char*, 4> parameters{};  // "" where it is passed by position alone.
  std::size_t required = 0;
  bool any = false;  // The function reads its arguments itself.
};

namespace {

bool is_text(const Value& value) {
  return value.text() != nullptr || value.markup() != nullptr;
}
bool is_iterable(const Value& value) {
  return is_text(value) || value.dict() != nullptr || value.list() != nullptr || value.is_undefined();
}

Value t_sequence(const Call& c) {
  const List* list = c.input.list();
  if (list != nullptr && list->kind == List::Kind::kView) c.refuse_input();
  return list != nullptr ? list->plain() : is_iterable(c.input);
}
Value t_equal(const Call& c) {
  return equal(c.input, *c.get(0), c.run.budget);
}

constexpr Builtin kTests[] = {
    {"defined", [](const Call& c) -> Value { return !c.input.is_undefined(); }},
    {"undefined", [](const Call& c) -> Value { return c.input.is_undefined(); }},
    {"none", [](const Call& c) -> Value { return c.input.is_none(); }},
    {"string", [](const Call& c) -> Value { return is_text(c.input); }},
    {"mapping", [](const Call& c) -> Value { return c.input.dict() != nullptr; }},
    {"iterable", [](const Call& c) -> Value { return is_iterable(c.input); }},
    {"sequence", t_sequence},
    {"number", [](const Call& c) -> Value { return c.input.integer().has_value(); }},
    {"integer", [](const Call& c) -> Value { return c.input.as<std::int64_t>() != nullptr; }},
    {"float", [](const Call&) -> Value { return false; }},
    {"boolean", [](const Call& c) -> Value { return c.input.as<bool>() != nullptr; }},
    {"true", [](const Call& c) -> Value { return c.input.as<bool>() != nullptr && c.input.truthy(); }},
    {"false", [](const Call& c) -> Value { return c.input.as<bool>() != nullptr && !c.input.truthy(); }},
    {"in", [](const Call& c) { return operate(c.run, "in", c.input, *c.get(0)); }, {"seq"}, 1},
    {"equalto", t_equal, {""}, 1},
    {"eq", t_equal, {""}, 1},
    {"ne", [](const Call& c) { return operate(c.run, "!=", c.input, *c.get(0)); }, {""}, 1},
};

Value attribute_of(const Call& c, const Value& item, const Value& name) {
  if (name.text() == nullptr) refuse("{} by a {}", c.name, name.type_name());
  const bool is_number = name.text()->find_first_not_of("0123456789") == std::string::npos;
  if (is_number || name.text()->find('.') != std::string::npos) refuse("{} by a path or a number", c.name);
  return get_item(c.run, item, name);
}

template <std::string (*kFunction)(std::string_view)>
Value changed(const Call& c) {
  return c.run.made(kFunction(c.input_text()));
}
template <bool kLeft, bool kRight>
Value stripped(const Call& c) {
  const std::string* chars = c.get(0, true) == nullptr ? nullptr : &c.text(0);
  return c.run.made(std::string(strip(c.input_text(), chars, kLeft, kRight)));
}
// Refuses words of anything but ASCII letters, about whose ends Python's title() and Jinja's title disagree.
std::string title(std::string_view text) {
  std::string out = lower(text);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool is_letter = out[i] >= 'a' && out[i] <= 'z' && (text[i] | 0x20) == out[i];
    if (!is_letter && text[i] != ' ') refuse("the title of \"{}\"", base::printable(text, 40));
    if (is_letter && (i == 0 || text[i - 1] == ' ')) out[i] = static_cast<char>(out[i] - 'a' + 'A');
  }
  return out;
}
// The parts of `text` between argument 0: at most `limit` cuts, all if negative.
std::vector<std::string_view> parts_of(const Call& c, std::string_view text, std::int64_t limit = -1) {
  const std::string& between = c.text(0);
  if (between.empty()) refuse("{} with an empty text as argument 1", c.name);
  std::vector<std::string_view> out;
  for (std::size_t at = text.find(between); at != std::string_view::npos && limit != 0; --limit) {
    c.run.budget.spend(1, 128);
    out.push_back(text.substr(0, at));
    text.remove_prefix(at + between.size());
    at = text.find(between);
  }
  out.push_back(text);
  return out;
}
Value replaced(const Call& c) {
  const std::string text = c.input_text();
  const auto parts = parts_of(c, text);
  std::string out(parts.front());
  for (std::size_t i = 1; i < parts.size(); ++i) append(c.run.budget, out, c.text(1), parts[i]);
  return c.run.made(std::move(out));
}
Value m_split(const Call& c) {
  List out;
  for (const auto part : parts_of(c, *c.input.text(), c.integer(1, -1))) {
    out.push_back(c.run.made(std::string(part)));
  }
  return c.run.made(std::move(out));
}
template <bool kLast>
Value m_find(const Call& c) {
  const std::string& text = *c.input.text();
  const std::size_t at = kLast ? text.rfind(c.text(0)) : text.find(c.text(0));
  return at == std::string::npos ? std::int64_t{-1} : count_characters(std::string_view(text).substr(0, at));
}
Value m_get(const Call& c) {
  if (c.get(0)->list() != nullptr || c.get(0)->dict() != nullptr) c.refuse_argument(0);
  if (c.get(0)->text() != nullptr) c.run.budget.work(c.text(0).size());
  const Value* found = c.get(0)->text() == nullptr ? nullptr : c.input.dict()->find(c.text(0));
  return found != nullptr ? *found : c.get(1) != nullptr ? *c.get(1) : Value(None{});
}
Value made(const Call& c, List items, List::Kind kind) {
  items.kind = kind;
  return c.run.made(std::move(items));
}
// Tuples of key and value.
List pairs_of(const Call& c) {
  if (c.input.dict() == nullptr) c.refuse_input();
  List out;
  for (const auto& [key, value] : c.input.dict()->items) {
    out.push_back(made(c, {c.run.made(key), value}, List::Kind::kTuple));
  }
  return out;
}
Value m_values(const Call& c) {
  List out;
  for (const auto& [key, value] : c.input.dict()->items) out.push_back(value);
  return made(c, std::move(out), List::Kind::kView);
}

Value f_length(const Call& c) {
  if (c.input.is_generator() || c.input.markup() != nullptr || !is_iterable(c.input)) c.refuse_input();
  return size_of(c.run, c.input);
}
Value f_default(const Call& c) {
  const bool missing = c.input.is_undefined() || (c.flag(1) && !c.input.truthy());
  if (!missing) return c.input;
  return c.get(0) == nullptr ? Value("") : *c.get(0);
}
Value f_safe(const Call& c) {
  std::string text = str(c.input);
  c.run.budget.spend(1, text.size() + 64);
  return Markup{std::move(text)};
}
Value f_join(const Call& c) {
  const std::string between = c.get(0) == nullptr ? "" : str(*c.get(0));
  const List items = c.run.items_of(c.input);
  std::string out;
  for (const Value& item : items)
    append(c.run.budget, out, &item == &items.front() ? "" : between, str(item));
  return c.run.made(std::move(out));
}
template <bool kLast>
Value f_end(const Call& c) {
  if (kLast && c.input.is_generator()) c.refuse_input();
  const List items = c.run.items_of(c.input);
  if (items.empty()) return Undefined{fmt::format("the {} item of nothing", c.name)};
  return kLast ? items.back() : items.front();
}

Value generator(const Call& c, List items) {
  return made(c, std::move(items), List::Kind::kGenerator);
}
Value f_items(const Call& c) {
  return generator(c, c.input.is_undefined() ? List() : pairs_of(c));
}
Value f_dictsort(const Call& c) {
  std::multimap<std::string, Value> sorted;
  for (const Value& pair : pairs_of(c)) {
    const std::string& key = *pair.list()->front().text();
    c.run.budget.work(key.size(), 16);
    sorted.emplace(lower(key), pair);
  }
  List out;
  for (const auto& [unused, pair] : sorted) out.push_back(pair);
  return c.run.made(std::move(out));
}

// Calls the filter or test whose name is argument `index`, with the arguments after it; null if that is not given.
// None of those that call others in turn.
std::function<Value(const Value&)> applied(const Call& c, std::size_t index, std::string_view kind) {
  const auto& all = c.arguments.positional;
  if (all.size() <= index) return nullptr;
  const std::string name = str(all[index]);
  const Builtin* builtin = find_builtin(kind, name);
  if (builtin == nullptr || builtin->any) refuse("{} of {}", c.name, base::printable(name, 60));
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(index) + 1;
  return [&c, builtin, rest = Arguments{{begin, all.end()}, c.arguments.named}](const Value& item) {
    return invoke(c.run, *builtin, item, rest);
  };
}
Value f_map(const Call& c) {
  if (!c.input.truthy()) return generator(c, {});
  const auto filter = applied(c, 0, "filter");
  const auto& named = c.arguments.named;
  if (!filter && (named.size() != 1 || named[0].first != "attribute"))
    refuse("map without the name of a filter or attribute=... alone");
  List out;
  for (const Value& item : c.run.items_of(c.input)) {
    out.push_back(filter ? filter(item) : attribute_of(c, item, named[0].second));
  }
  return generator(c, std::move(out));
}
// select, reject (kKeep false), selectattr, rejectattr.
template <bool kAttribute, bool kKeep>
Value f_select(const Call& c) {
  if (!c.input.truthy()) return generator(c, {});
  const auto test = applied(c, kAttribute ? 1 : 0, "test");
  const auto& given = c.arguments.positional;
  if (kAttribute && given.empty()) fail("{} lacks an attribute", c.name);
  if (!test && !c.arguments.named.empty()) refuse("{} with named arguments alone", c.name);
  List out;
  for (const Value& item : c.run.items_of(c.input)) {
    const Value value = kAttribute ? attribute_of(c, item, given.front()) : item;
    if ((test ? test(value) : value).truthy() == kKeep) out.push_back(item);
  }
  return generator(c, std::move(out));
}

// int() of a whole number, which may be a text of digits.
Value f_int(const Call& c) {
  require_defined(c.input);
  if (const auto number = c.input.integer()) return *number;
  if (c.input.text() == nullptr) c.refuse_input();
  const std::string_view digits = strip(*c.input.text());
  const char* end = digits.data() + digits.size();
  std::int64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), end, value);
  if (parsed.ec == std::errc{} && parsed.ptr == end) return value;
  refuse("int of \"{}\"", base::printable(digits, 40));
}

// The value as JSON, each line of which costs `width` bytes more.
base::Json json_of(Budget& budget, const Value& value, std::size_t width) {
  budget.step();
  budget.spend(1, width + 64);
  if (value.is_none()) return nullptr;
  if (const auto* b = value.as<bool>()) return *b;
  if (const auto i = value.integer()) return *i;
  if (value.text() != nullptr || value.markup() != nullptr) {
    std::string text = str(value);
    budget.spend(6, text.size());
    return text;
  }
  if (const List* list = value.list(); list != nullptr && list->plain()) {
    base::Json out = base::Json::array();
    for (const Value& item : *list) out.push_back(json_of(budget, item, width));
    return out;
  }
  if (value.dict() == nullptr) refuse("JSON of a {}", value.type_name());
  base::Json out = base::Json::object();
  for (const auto& [key, item] : value.dict()->items) {
    budget.spend(6, key.size());
    out[key] = json_of(budget, item, width);
  }
  return out;
}
// Lines of JSON as one, as json.dumps writes it: a line end is no part of any text.
std::string one_line(std::string_view lines) {
  std::string out;
  for (const char c : lines) {
    if (c != '\n') out += c;
    if (c == '\n' && out.ends_with(',')) out += ' ';
  }
  return out;
}
// json.dumps(value, ensure_ascii, indent, separators, sort_keys).
Value f_tojson(const Call& c) {
  static const Value kCompact = List{",", ":"};
  const bool indented = c.get(1, true) != nullptr;
  const std::int64_t indent = indented ? std::max<std::int64_t>(c.integer(1, 0), 0) : 0;
  if (indent > 100) c.refuse_argument(1);
  const Value* separators = c.get(2, true);
  if (separators != nullptr && (indented || !equal(c.run.items_of(*separators), kCompact, c.run.budget))) {
    refuse("tojson with separators other than (',', ':') on one line");
  }
  const auto width = static_cast<std::size_t>(indent) * kMaxNesting;
  const auto dumped = [&](const auto& json) {
    const int levels = separators != nullptr ? -1 : static_cast<int>(indent);
    return json.dump(levels, ' ', c.flag(0), base::Json::error_handler_t::replace);
  };
  const base::Json json = json_of(c.run.budget, c.input, width);
  const std::string text = c.flag(3) ? dumped(nlohmann::json(json)) : dumped(json);
  return c.run.made(indented ? text : one_line(text));
}
constexpr Builtin kFilters[] = {
    {"trim", stripped<true, true>, {"chars"}},
    {"length", f_length},
    {"default", f_default, {"default_value", "boolean"}},
    {"string", [](const Call& c) { return c.run.made(c.input_text()); }},
    {"safe", f_safe},
    {"upper", changed<upper>},
    {"lower", changed<lower>},
    {"title", changed<title>},
    {"capitalize", changed<capitalize>},
    {"replace", replaced, {"old", "new"}, 2},
    {"join", f_join, {"d"}},
    {"list", [](const Call& c) -> Value { return c.run.items_of(c.input); }},
    {"first", f_end<false>},
    {"last", f_end<true>},
    {"items", f_items},
    {"dictsort", f_dictsort},
    {"map", f_map, {}, 0, true},
    {"select", f_select<false, true>, {}, 0, true},
    {"reject", f_select<false, false>, {}, 0, true},
    {"selectattr", f_select<true, true>, {}, 0, true},
    {"rejectattr", f_select<true, false>, {}, 0, true},
    {"int", f_int},
    {"tojson", f_tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}},
};

constexpr Builtin kTextMethods[] = {
    {"strip", stripped<true, true>, {""}},
    {"lstrip", stripped<true, false>, {""}},
    {"rstrip", stripped<false, true>, {""}},
    {"upper", changed<upper>},
    {"lower", changed<lower>},
    {"title", changed<title>},
    {"capitalize", changed<capitalize>},
    {"split", m_split, {"sep", "maxsplit"}, 1},
    {"startswith", [](const Call& c) -> Value { return c.input.text()->starts_with(c.text(0)); }, {""}, 1},
    {"endswith", [](const Call& c) -> Value { return c.input.text()->ends_with(c.text(0)); }, {""}, 1},
    {"find", m_find<false>, {""}, 1},
    {"rfind", m_find<true>, {""}, 1},
    {"replace", replaced, {"", ""}, 2},
};
constexpr Builtin kDictMethods[] = {
    {"get", m_get, {"", ""}, 1},
    {"items", [](const Call& c) { return made(c, pairs_of(c), List::Kind::kView); }},
    {"keys", [](const Call& c) { return made(c, c.run.items_of(c.input), List::Kind::kView); }},
    {"values", m_values},
};

Value g_range(const Call& c) {
  const std::int64_t begin = c.get(1) == nullptr ? 0 : c.integer(0, 0);
  const std::int64_t end = c.integer(c.get(1) == nullptr ? 0 : 1, 0);
  const std::int64_t by = c.integer(2, 1);
  if (by == 0) fail("the step of a range is 0");
  List out(List::Kind::kView);
  for (std::int64_t i = begin; by > 0 ? i < end : i > end;) {
    if (out.size() == Interpreter::kMaxRange) fail("a range has more than {} items", Interpreter::kMaxRange);
    out.emplace_back(i);
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  return c.run.made(std::move(out));
}
Value g_namespace(const Call& c) {
  if (!c.arguments.positional.empty()) refuse("namespace of anything but named arguments");
  auto names = c.run.make_namespace();
  for (const auto& [key, value] : c.arguments.named) put(c.run.budget, *names, key, value);
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
    refuse("strftime_now(\"%{}\")", base::printable(letter));
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

const Builtin* find(std::span<const Builtin> all, std::string_view name) {
  const auto known = std::find_if(all.begin(), all.end(), [&](const Builtin& b) { return b.name == name; });
  return known == all.end() ? nullptr : &*known;
}

}  // namespace

const Builtin* find_builtin(std::string_view kind, std::string_view name) {
  return find(kind == "filter" ? std::span<const Builtin>(kFilters) : kTests, name);
}
bool has_method(std::string_view name) {
  return find(kTextMethods, name) != nullptr || find(kDictMethods, name) != nullptr;
}

std::vector<std::pair<std::string, Value>> global_functions() {
  std::vector<std::pair<std::string, Value>> out;
  for (const Builtin& global : kGlobals) {
    const auto call = [&global](Interpreter& run, const Arguments& arguments) {
      return invoke(run, global, None{}, arguments);
    };
    out.emplace_back(global.name, std::make_shared<const Function>(Function{call}));
  }
  return out;
}

Value invoke(Interpreter& run, const Builtin& builtin, const Value& input, const Arguments& arguments) {
  Call call{run, builtin.name, input, arguments, {}};
  if (!builtin.any) {
    const auto& names = builtin.parameters;
    call.bound = bind(run.budget, std::string(builtin.name),
                      {names.begin(), std::find(names.begin(), names.end(), nullptr)}, arguments);
  }
  for (std::size_t i = 0; i < builtin.required; ++i) {
    if (call.get(i) == nullptr) fail("{} lacks its argument {}", call.name, i + 1);
  }
  if (const std::string* text = input.text()) {
    run.budget.work(text->size(), 16);
    for (const Value* argument : call.bound) {
      const bool is_text = argument != nullptr && argument->text() != nullptr;
      if (is_text) run.budget.search(*text, *argument->text());
    }
  }
  return builtin.function(call);
}

Value call_method(Interpreter& run, const Value& object, const std::string& name,
                  const Arguments& arguments) {
  require_defined(object);
  const Builtin* method = object.text() != nullptr   ? find(kTextMethods, name)
                          : object.dict() != nullptr ? find(kDictMethods, name)
                                                     : nullptr;
  if (method == nullptr) refuse("the method {} of a {}", base::printable(name, 60), object.type_name());
  return invoke(run, *method, object, arguments);
}

}  // namespace tte::text::jinja
