// The filters and methods of chat templates. Where both have the same name, they are mostly one function.
#include <algorithm>
#include <charconv>

#include "base/printable.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

// What the attribute "a.b" of an item is.
Value at_path(const Call& c, Value item, const Value& attribute) {
  if (attribute.text() == nullptr) refuse(fmt::format("{} by a {}", c.name, attribute.type_name()));
  const std::string& path = *attribute.text();
  for (std::size_t at = 0, dot = 0; dot != std::string::npos; at = dot + 1) {
    dot = path.find('.', at);
    const std::string part = path.substr(at, dot == std::string::npos ? dot : dot - at);
    if (part.find_first_not_of("0123456789") == std::string::npos)
      refuse(fmt::format("{} by a number", c.name));
    item = get_item(c.run, item, part);
  }
  return item;
}

template <std::string (*kFunction)(std::string_view)>
Value changed(const Call& c) {
  const std::string text = c.input_text();
  c.run.budget.work(text.size(), 16);
  return c.run.made(kFunction(text));
}
template <bool kEachWord>
std::string capitals(std::string_view text) {
  return with_capitals(text, kEachWord);
}
std::string same(std::string_view text) {
  return std::string(text);
}
template <bool kLeft, bool kRight>
Value stripped(const Call& c) {
  const std::string* chars = c.get(0, true) == nullptr ? nullptr : &c.text(0);
  const std::string text = c.input_text();
  if (chars != nullptr) pay_for_search(c.run.budget, text, *chars);
  return c.run.made(std::string(strip(text, chars, kLeft, kRight)));
}
Value replaced(const Call& c) {
  return c.run.made(replace(c.run.budget, c.input_text(), c.text(0), c.text(1)));
}

Value m_split(const Call& c) {
  if (c.text(0).empty()) throw Failure("the separator of split() is empty");
  List out;
  for (const auto part : split(c.run.budget, *c.input.text(), c.text(0), c.integer(1, -1))) {
    out.push_back(c.run.made(std::string(part)));
  }
  return c.run.made(std::move(out));
}
template <bool kLast>
Value m_find(const Call& c) {
  const std::string& text = *c.input.text();
  pay_for_search(c.run.budget, text, c.text(0));
  const std::size_t at = kLast ? text.rfind(c.text(0)) : text.find(c.text(0));
  return at == std::string::npos ? std::int64_t{-1} : length(std::string_view(text).substr(0, at));
}
Value m_get(const Call& c) {
  if (c.get(0)->list() != nullptr || c.get(0)->dict() != nullptr) c.refuse_argument(0);
  const Value* found = c.get(0)->text() == nullptr ? nullptr : c.input.dict()->find(c.text(0));
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

Value f_length(const Call& c) {
  const List* list = c.input.list();
  if (list != nullptr && list->kind != List::Kind::kGenerator) return static_cast<std::int64_t>(list->size());
  if (const auto* text = c.input.text()) return length(*text);
  if (const auto* dict = c.input.dict()) return static_cast<std::int64_t>(dict->items.size());
  if (c.input.is_undefined()) return std::int64_t{0};
  c.refuse_input();
}
Value f_default(const Call& c) {
  const bool missing = c.input.is_undefined() || (c.flag(1) && !c.input.truthy());
  if (!missing) return c.input;
  return c.get(0) == nullptr ? Value("") : *c.get(0);
}
Value f_safe(const Call& c) {
  c.run.budget.take(1, 64);
  return Markup{str(c.input)};
}
Value f_join(const Call& c) {
  const std::string between = c.get(0) == nullptr ? "" : str(*c.get(0));
  std::string out;
  bool first = true;
  for (const Value& item : c.run.items_of(c.input)) {
    append(c.run.budget, out, std::exchange(first, false) ? "" : between, str(item));
  }
  return c.run.made(std::move(out));
}
template <bool kLast>
Value f_end(const Call& c) {
  if (kLast && c.input.list() != nullptr && c.input.list()->kind == List::Kind::kGenerator) c.refuse_input();
  const List items = c.run.items_of(c.input);
  if (items.empty()) return Undefined{fmt::format("the {} item of nothing", c.name)};
  return kLast ? items.back() : items.front();
}

Value generator(const Call& c, List items) {
  items.kind = List::Kind::kGenerator;
  return c.run.made(std::move(items));
}
List pairs_of(const Call& c) {
  if (c.input.dict() == nullptr) c.refuse_input();
  return c.run.items_of(m_view<true, true>(c));
}
Value f_items(const Call& c) {
  return generator(c, c.input.is_undefined() ? List() : pairs_of(c));
}
Value f_dictsort(const Call& c) {
  std::vector<std::pair<std::string, Value>> keyed;
  for (const Value& item : pairs_of(c)) {
    const std::string& key = *item.list()->front().text();
    c.run.budget.work(key.size(), 16);
    keyed.emplace_back(lower(key), item);
  }
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  List out;
  for (auto& [unused, item] : keyed) out.push_back(std::move(item));
  return c.run.made(std::move(out));
}

// What is called of each item: the filter or test whose name is argument `index`, with the arguments after it.
struct Applied {
  const Builtin* builtin;
  Arguments arguments;
};
std::optional<Applied> applied(const Call& c, std::size_t index, const Builtin* (*find)(std::string_view)) {
  const auto& all = c.arguments.positional;
  if (all.size() <= index) return std::nullopt;
  const std::string name = str(all[index]);
  const Builtin* builtin = find(name);
  if (builtin == nullptr) refuse(fmt::format("{} of {}", c.name, base::printable(name, 60)));
  return Applied{builtin,
                 {{all.begin() + static_cast<std::ptrdiff_t>(index) + 1, all.end()}, c.arguments.named}};
}
Value f_map(const Call& c) {
  if (!c.input.truthy()) return generator(c, {});
  const auto filter = applied(c, 0, find_filter);
  const auto& named = c.arguments.named;
  if (!filter && (named.size() != 1 || named[0].first != "attribute")) {
    refuse("map without the name of a filter or attribute=... alone");
  }
  List out;
  for (const Value& item : c.run.items_of(c.input)) {
    Value made =
        filter ? invoke(c.run, *filter->builtin, item, filter->arguments) : at_path(c, item, named[0].second);
    if (made.list() != nullptr && !made.list()->plain()) refuse("a generator in a generator");
    out.push_back(std::move(made));
  }
  return generator(c, std::move(out));
}
// select, reject (kKeep false), selectattr, rejectattr.
template <bool kAttribute, bool kKeep>
Value f_select(const Call& c) {
  if (!c.input.truthy()) return generator(c, {});
  const auto test = applied(c, kAttribute ? 1 : 0, find_test);
  const auto& given = c.arguments.positional;
  if (kAttribute && given.empty()) throw Failure(fmt::format("{} lacks an attribute", c.name));
  if (!test && !c.arguments.named.empty()) refuse(fmt::format("{} with named arguments alone", c.name));
  List out;
  for (const Value& item : c.run.items_of(c.input)) {
    const Value value = kAttribute ? at_path(c, item, given.front()) : item;
    const Value kept = test ? invoke(c.run, *test->builtin, value, test->arguments) : value;
    if (kept.truthy() == kKeep) out.push_back(item);
  }
  return generator(c, std::move(out));
}

// int() of a whole number, which may be a text of digits.
Value f_int(const Call& c) {
  if (const auto* undefined = c.input.as<Undefined>()) fail_undefined(*undefined);
  if (const auto number = c.input.integer()) return *number;
  if (c.input.text() == nullptr) c.refuse_input();
  const std::string_view digits = strip(*c.input.text(), nullptr, true, true);
  const char* end = digits.data() + digits.size();
  std::int64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), end, value);
  if (parsed.ec == std::errc{} && parsed.ptr == end) return value;
  refuse(fmt::format("int of \"{}\"", base::printable(digits, 40)));
}

Value f_tojson(const Call& c) {
  JsonStyle style;
  style.ensure_ascii = c.flag(0);
  style.sort_keys = c.flag(3);
  if (const Value* indent = c.get(1, true); indent != nullptr) {
    style.multiline = true;
    style.item_separator = std::string(1, ',');
    style.indent =
        indent->text() != nullptr
            ? *indent->text()
            : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(c.integer(1, 0), 0, 1001)), ' ');
    if (style.indent.size() > 1000) c.refuse_argument(1);
  }
  if (const Value* separators = c.get(2, true); separators != nullptr) {
    const List both = c.run.items_of(*separators);
    if (both.size() != 2 || both[0].text() == nullptr || both[1].text() == nullptr) c.refuse_argument(2);
    style.item_separator = *both[0].text();
    style.key_separator = *both[1].text();
  }
  const auto* markup = c.input.markup();
  return c.run.made(to_json(markup != nullptr ? Value(markup->text) : c.input, style, c.run.budget));
}
constexpr Builtin kFilters[] = {
    {"trim", stripped<true, true>, {"chars"}},
    {"length", f_length},
    {"default", f_default, {"default_value", "boolean"}},
    {"string", changed<same>},
    {"safe", f_safe},
    {"upper", changed<upper>},
    {"lower", changed<lower>},
    {"title", changed<capitals<true>>},
    {"capitalize", changed<capitals<false>>},
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
    {"title", changed<capitals<true>>},
    {"capitalize", changed<capitals<false>>},
    {"split", m_split, {"sep", "maxsplit"}, 1},
    {"startswith", [](const Call& c) -> Value { return c.input.text()->starts_with(c.text(0)); }, {""}, 1},
    {"endswith", [](const Call& c) -> Value { return c.input.text()->ends_with(c.text(0)); }, {""}, 1},
    {"find", m_find<false>, {""}, 1},
    {"rfind", m_find<true>, {""}, 1},
    {"replace", replaced, {"", ""}, 2},
};
constexpr Builtin kDictMethods[] = {
    {"get", m_get, {"", ""}, 1},
    {"items", m_view<true, true>},
    {"keys", m_view<true, false>},
    {"values", m_view<false, true>},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  return find_builtin(kFilters, name);
}

Value call_method(Interpreter& run, const Value& object, const std::string& name,
                  const Arguments& arguments) {
  if (const auto* undefined = object.as<Undefined>()) fail_undefined(*undefined);
  const Builtin* method = object.text() != nullptr   ? find_builtin(kTextMethods, name)
                          : object.dict() != nullptr ? find_builtin(kDictMethods, name)
                                                     : nullptr;
  if (method == nullptr)
    refuse(fmt::format("the method {} of a {}", base::printable(name, 60), object.type_name()));
  return invoke(run, *method, object, arguments);
}

bool has_method(std::string_view name) {
  return find_builtin(kTextMethods, name) != nullptr || find_builtin(kDictMethods, name) != nullptr;
}

}  // namespace tte::text::jinja
