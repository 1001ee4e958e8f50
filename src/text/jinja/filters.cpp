// The filters of chat templates.
#include <algorithm>

#include "base/printable.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

// What the attribute "a.b.0" of an item is.
Value at_path(const Call& c, Value item, const Value* attribute) {
  if (attribute == nullptr) return item;
  if (attribute->text() == nullptr) refuse(fmt::format("{} by a {}", c.name, attribute->type_name()));
  std::string path = *attribute->text();
  path += '.';
  for (std::size_t at = 0, dot = 0; at < path.size(); at = dot + 1) {
    dot = path.find('.', at);
    const std::string part = path.substr(at, dot - at);
    const bool number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char d) { return d >= '0' && d <= '9'; });
    item = get_item(c.run, item, number ? Value(parse_int(part).value()) : Value(part));
  }
  return item;
}

template <std::string (*kFunction)(std::string_view)>
Value f_case(const Call& c) {
  const std::string text = c.input_text();
  c.run.budget.work(text.size(), 16);
  return c.run.made(kFunction(text));
}
std::string same(std::string_view text) {
  return std::string(text);
}
Value f_trim(const Call& c) {
  const std::string* chars = c.text_or_none(0);
  return c.run.made(std::string(strip(c.input_text(), chars, true, true)));
}
Value f_length(const Call& c) {
  if (const auto* text = c.input.text()) return length(*text);
  const List* list = c.input.list();
  if (list != nullptr && list->kind != List::Kind::kGenerator) return static_cast<std::int64_t>(list->size());
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
  return Markup{c.run.text_of(c.input)};
}
Value f_replace(const Call& c) {
  const std::int64_t limit = c.get(2) == nullptr || c.get(2)->is_none() ? -1 : c.integer(2, -1);
  return c.run.made(
      replace(c.run.budget, c.input_text(), c.run.text_of(*c.get(0)), c.run.text_of(*c.get(1)), limit));
}
Value f_join(const Call& c) {
  const std::string between = c.get(0) == nullptr ? "" : c.run.text_of(*c.get(0));
  std::string out;
  bool first = true;
  for (const Value& item : c.run.items_of(c.input)) {
    const std::string text = c.run.text_of(at_path(c, item, c.get(1)));
    append(c.run.budget, out, std::exchange(first, false) ? "" : between, text);
  }
  return c.run.made(std::move(out));
}
Value f_list(const Call& c) {
  return c.run.items_of(c.input);
}
Value f_first(const Call& c) {
  const List items = c.run.items_of(c.input);
  return items.empty() ? Value(Undefined{"the first item of nothing"}) : items.front();
}
Value f_last(const Call& c) {
  if (c.input.list() != nullptr && c.input.list()->kind == List::Kind::kGenerator) c.refuse_input();
  const List items = c.run.items_of(c.input);
  return items.empty() ? Value(Undefined{"the last item of nothing"}) : items.back();
}
Value generator(const Call& c, List items) {
  items.kind = List::Kind::kGenerator;
  return c.run.made(std::move(items));
}
Value f_reverse(const Call& c) {
  if (c.input.list() == nullptr || !c.input.list()->plain()) c.refuse_input();
  List items = c.run.items_of(c.input);
  std::reverse(items.begin(), items.end());
  return generator(c, std::move(items));
}
Value f_items(const Call& c) {
  if (c.input.is_undefined()) return generator(c, {});
  if (c.input.dict() == nullptr) c.refuse_input();
  return generator(c, c.run.items_of(invoke(c.run, *find_method("items"), c.input, {})));
}
Value f_dictsort(const Call& c) {
  if (c.input.dict() == nullptr) c.refuse_input();
  std::vector<std::pair<std::string, Value>> keyed;
  for (const Value& item : c.run.items_of(invoke(c.run, *find_method("items"), c.input, {}))) {
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
  if (all[index].text() == nullptr)
    refuse(fmt::format("{} with a {} as a name", c.name, all[index].type_name()));
  const Builtin* builtin = find(*all[index].text());
  if (builtin == nullptr) refuse(fmt::format("{} of {}", c.name, base::printable(*all[index].text(), 60)));
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
    Value made = filter ? invoke(c.run, *filter->builtin, item, filter->arguments)
                        : at_path(c, item, &named[0].second);
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
  if (kAttribute && c.arguments.positional.empty())
    throw Failure(fmt::format("{} lacks an attribute", c.name));
  if (!test && !c.arguments.named.empty()) refuse(fmt::format("{} with named arguments alone", c.name));
  List out;
  for (const Value& item : c.run.items_of(c.input)) {
    const Value value = at_path(c, item, kAttribute ? &c.arguments.positional.front() : nullptr);
    const Value kept = test ? invoke(c.run, *test->builtin, value, test->arguments) : value;
    if (kept.truthy() == kKeep) out.push_back(item);
  }
  return generator(c, std::move(out));
}

Value f_int(const Call& c) {
  if (const auto* undefined = c.input.as<Undefined>()) fail_undefined(*undefined);
  if (c.input.markup() != nullptr) c.refuse_input();
  if (const auto number = c.input.integer()) return *number;
  const auto number = c.input.text() != nullptr ? parse_int(*c.input.text()) : std::nullopt;
  if (number) return *number;
  return c.get(0) == nullptr ? Value(std::int64_t{0}) : *c.get(0);
}

// A text to indent with, or a number of spaces.
std::string indentation(const Call& c, std::size_t index, std::int64_t fallback) {
  if (c.get(index) != nullptr && c.get(index)->text() != nullptr) return c.text(index);
  const std::int64_t width = std::max<std::int64_t>(c.integer(index, fallback), 0);
  if (width > 1000) c.refuse_argument(index);
  return std::string(static_cast<std::size_t>(width), ' ');
}
Value f_tojson(const Call& c) {
  JsonStyle style;
  style.ensure_ascii = c.flag(0);
  style.sort_keys = c.flag(3);
  if (c.get(1) != nullptr && !c.get(1)->is_none()) {
    style.multiline = true;
    style.item_separator = std::string(1, ',');
    style.indent = indentation(c, 1, 0);
  }
  if (const Value* separators = c.get(2); separators != nullptr && !separators->is_none()) {
    const List both = c.run.items_of(*separators);
    if (both.size() != 2 || both[0].text() == nullptr || both[1].text() == nullptr) c.refuse_argument(2);
    style.item_separator = *both[0].text();
    style.key_separator = *both[1].text();
  }
  const auto* markup = c.input.markup();
  return c.run.made(to_json(markup != nullptr ? Value(markup->text) : c.input, style, c.run.budget));
}
Value f_indent(const Call& c) {
  if (c.input.text() == nullptr) c.refuse_input();
  const std::string pad = indentation(c, 0, 4);
  std::string out = c.flag(1) ? pad : "";
  bool first = true;
  // Jinja adds this newline for splitlines(), which loses it again.
  std::string text = *c.input.text();
  text += '\n';
  for (const std::string_view line : split_lines(c.run.budget, text)) {
    append(c.run.budget, out, first ? "" : "\n", first || (!c.flag(2) && line.empty()) ? "" : pad);
    append(c.run.budget, out, line);
    first = false;
  }
  return c.run.made(std::move(out));
}

constexpr Builtin kFilters[] = {
    {"trim", f_trim, {"chars"}},
    {"length", f_length},
    {"count", f_length},
    {"default", f_default, {"default_value", "boolean"}},
    {"d", f_default, {"default_value", "boolean"}},
    {"string", f_case<same>},
    {"safe", f_safe},
    {"upper", f_case<upper>},
    {"lower", f_case<lower>},
    {"title", f_case<title_filter>},
    {"capitalize", f_case<capitalize>},
    {"replace", f_replace, {"old", "new", "count"}, 2},
    {"join", f_join, {"d", "attribute"}},
    {"list", f_list},
    {"first", f_first},
    {"last", f_last},
    {"reverse", f_reverse},
    {"items", f_items},
    {"dictsort", f_dictsort},
    {"map", f_map, {}, 0, true},
    {"select", f_select<false, true>, {}, 0, true},
    {"reject", f_select<false, false>, {}, 0, true},
    {"selectattr", f_select<true, true>, {}, 0, true},
    {"rejectattr", f_select<true, false>, {}, 0, true},
    {"int", f_int, {"default"}},
    {"tojson", f_tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"indent", f_indent, {"width", "first", "blank"}},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  return find_builtin(kFilters, name);
}

}  // namespace tte::text::jinja
