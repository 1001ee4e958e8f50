// The filters of chat templates.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/printable.h"
#include "text/jinja/call.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

// The keys that "a.b.0" stands for.
List path_of(const Value* attribute) {
  List parts;
  if (attribute == nullptr || attribute->is_none()) return parts;
  if (attribute->text() == nullptr) return {*attribute};
  std::string_view rest = *attribute->text();
  while (true) {
    const std::string_view part = rest.substr(0, rest.find('.'));
    const bool number = std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    std::int64_t at = 0;
    if (number && !part.empty()) {
      const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), at);
      if (error != std::errc{}) refuse(fmt::format("the attribute {}", base::printable(part, 60)));
    }
    parts.push_back(number && !part.empty() ? Value(at) : Value(part));
    if (part.size() == rest.size()) return parts;
    rest.remove_prefix(part.size() + 1);
  }
}
Value at_path(Interpreter& run, Value item, const List& path, const Value* fallback = nullptr) {
  for (const Value& part : path) {
    item = get_item(run, item, part);
    if (fallback != nullptr && !fallback->is_none() && item.is_undefined()) item = *fallback;
  }
  return item;
}
// What is compared of an item: without case unless asked for.
Value key_of(Interpreter& run, const Value& item, const List& path, bool case_sensitive) {
  Value key = at_path(run, item, path);
  if (case_sensitive || key.text() == nullptr) return key;
  run.budget.work(key.text()->size(), 16);
  return run.made(lower(*key.text()));
}
int order_of(Interpreter& run, const Value& a, const Value& b) {
  const auto sign = order(a, b, run.budget);
  if (!sign) refuse(fmt::format("the order of {} and {}", a.type_name(), b.type_name()));
  return *sign;
}

// What gives values one by one, and only once. `depth` of what `next` holds.
Value generator(int depth, Interpreter::Next next) {
  return Iterator{std::move(next), depth};
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
  if (const auto* list = c.input.list()) return static_cast<std::int64_t>(list->size());
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
  const List path = path_of(c.get(1));
  std::string out;
  bool first = true;
  const auto next = c.run.iterate(c.input);
  while (const auto item = next()) {
    append(c.run.budget, out, first ? "" : between, c.run.text_of(at_path(c.run, *item, path)));
    first = false;
  }
  return c.run.made(std::move(out));
}
Value f_list(const Call& c) {
  return c.run.items_of(c.input);
}
Value f_first(const Call& c) {
  const auto item = c.run.iterate(c.input)();
  return item ? *item : Value(Undefined{"the first item of nothing"});
}
Value f_last(const Call& c) {
  if (c.input.iterator() != nullptr) c.refuse_input();
  const List items = c.run.items_of(c.input);
  return items.empty() ? Value(Undefined{"the last item of nothing"}) : items.back();
}
Value f_reverse(const Call& c) {
  if (const auto* text = c.input.text()) {
    std::string out;
    for (std::size_t end = text->size(); end > 0;) {
      const std::size_t begin = previous(*text, end);
      out.append(*text, begin, end - begin);
      end = begin;
    }
    return c.run.made(std::move(out));
  }
  List items = c.run.items_of(c.input);
  std::reverse(items.begin(), items.end());
  if (c.input.iterator() != nullptr) return items;
  Value reversed(std::move(items));
  return generator(reversed.depth(), c.run.iterate(reversed));
}
Value f_items(const Call& c) {
  if (c.input.is_undefined()) return generator(0, [] { return std::nullopt; });
  if (c.input.dict() == nullptr) c.refuse_input();
  return generator(c.input.depth(),
                   [&run = c.run, dict = c.input, i = std::size_t{0}]() mutable -> std::optional<Value> {
                     if (i == dict.dict()->items.size()) return std::nullopt;
                     const auto& [key, value] = dict.dict()->items[i++];
                     return run.made(tuple_of({run.made(key), value}));
                   });
}

// The items in the order of their keys; `key` is asked for once an item.
template <typename Key>
Value sorted(const Call& c, const List& items, bool reverse, Key key) {
  std::vector<std::pair<Value, const Value*>> keyed;
  c.run.budget.take(items.size(), sizeof(keyed[0]));
  for (const Value& item : items) keyed.emplace_back(key(item), &item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return (reverse ? order_of(c.run, b.first, a.first) : order_of(c.run, a.first, b.first)) < 0;
  });
  List out;
  for (const auto& [unused, item] : keyed) out.push_back(*item);
  return c.run.made(std::move(out));
}
Value f_sort(const Call& c) {
  // "a,b" sorts by a, then by b.
  std::vector<List> paths;
  const std::string* attributes = c.get(2) == nullptr ? nullptr : c.get(2)->text();
  for (std::size_t at = 0; attributes != nullptr && at <= attributes->size();) {
    const std::size_t end = std::min(attributes->find(',', at), attributes->size());
    const Value attribute(attributes->substr(at, end - at));
    paths.push_back(path_of(&attribute));
    at = end + 1;
  }
  if (attributes == nullptr) paths.push_back(path_of(c.get(2)));
  return sorted(c, c.run.items_of(c.input), c.flag(0), [&](const Value& item) {
    List keys;
    for (const List& path : paths) keys.push_back(key_of(c.run, item, path, c.flag(1)));
    return c.run.made(std::move(keys));
  });
}
Value f_dictsort(const Call& c) {
  const std::string by = c.get(1) == nullptr ? "key" : c.text(1);
  if (by != "key" && by != "value") throw Failure("dictsort is by \"key\" or \"value\"");
  if (c.input.dict() == nullptr) c.refuse_input();
  List pairs;
  for (const auto& [key, value] : c.input.dict()->items)
    pairs.push_back(c.run.made(tuple_of({c.run.made(key), value})));
  return sorted(c, pairs, c.flag(2), [&](const Value& pair) {
    return key_of(c.run, by == "key" ? pair.list()->front() : pair.list()->back(), {}, c.flag(0));
  });
}

bool is_hashable(const Value& value) {
  if (value.dict() != nullptr) return false;
  const List* list = value.list();
  return list == nullptr ||
         (list->kind == List::Kind::kTuple && std::all_of(list->begin(), list->end(), is_hashable));
}
Value f_unique(const Call& c) {
  const Value path(path_of(c.get(1)));
  return generator(std::max(c.input.depth(), path.depth()),
                   [&run = c.run, next = c.run.iterate(c.input), path, case_sensitive = c.flag(0),
                    known = std::vector<Value>{}]() mutable -> std::optional<Value> {
                     while (auto item = next()) {
                       Value key = key_of(run, *item, *path.list(), case_sensitive);
                       if (!is_hashable(key)) refuse(fmt::format("unique of a {}", key.type_name()));
                       if (std::any_of(known.begin(), known.end(),
                                       [&](const Value& other) { return equal(key, other, run.budget); })) {
                         continue;
                       }
                       run.budget.take(1, sizeof(Value));
                       known.push_back(std::move(key));
                       return item;
                     }
                     return std::nullopt;
                   });
}
template <bool kMax>
Value f_extreme(const Call& c) {
  const List path = path_of(c.get(1));
  std::optional<Value> best;
  Value best_key;
  const auto next = c.run.iterate(c.input);
  while (auto item = next()) {
    Value key = key_of(c.run, *item, path, c.flag(0));
    if (best && (kMax ? order_of(c.run, key, best_key) <= 0 : order_of(c.run, key, best_key) >= 0)) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best ? *best : Value(Undefined{"the extreme of nothing"});
}

// What is called of each item: a filter or a test with its arguments.
struct Applied {
  std::string name;
  Arguments arguments;
};
// The name at `index` of the arguments, and what follows it; none if there is no name.
std::optional<Applied> applied(const Call& c, std::size_t index) {
  const auto& all = c.arguments.positional;
  if (all.size() <= index) return std::nullopt;
  if (all[index].text() == nullptr)
    refuse(fmt::format("{} with a {} as a name", c.name, all[index].type_name()));
  return Applied{*all[index].text(),
                 {{all.begin() + static_cast<std::ptrdiff_t>(index) + 1, all.end()}, c.arguments.named}};
}
int depth_of(const Call& c) {
  int depth = c.input.depth();
  for (const Value& value : c.arguments.positional) depth = std::max(depth, value.depth());
  for (const auto& named : c.arguments.named) depth = std::max(depth, named.second.depth());
  return depth;
}
Value f_map(const Call& c) {
  if (!c.input.truthy()) return generator(0, [] { return std::nullopt; });
  const auto filter = applied(c, 0);
  Interpreter::Next next = c.run.iterate(c.input);
  if (filter) {
    return generator(depth_of(c), [&run = c.run, next, f = *filter]() -> std::optional<Value> {
      const auto item = next();
      return item ? std::optional(call_filter(run, f.name, *item, f.arguments)) : std::nullopt;
    });
  }
  const Value* attribute = nullptr;
  std::optional<Value> fallback;
  for (const auto& [key, value] : c.arguments.named) {
    if (key == "attribute") attribute = &value;
    if (key == "default") fallback = value;
    if (key != "attribute" && key != "default")
      refuse(fmt::format("map with an argument {}", base::printable(key, 60)));
  }
  if (attribute == nullptr) throw Failure("map lacks the name of a filter or an attribute");
  return generator(depth_of(c),
                   [&run = c.run, next, path = path_of(attribute), fallback]() -> std::optional<Value> {
                     const auto item = next();
                     if (!item) return std::nullopt;
                     return at_path(run, *item, path, fallback ? &*fallback : nullptr);
                   });
}
// select, reject (kKeep false), selectattr, rejectattr.
template <bool kAttribute, bool kKeep>
Value f_select(const Call& c) {
  if (!c.input.truthy()) return generator(0, [] { return std::nullopt; });
  const auto test = applied(c, kAttribute ? 1 : 0);
  if (kAttribute && c.arguments.positional.empty())
    throw Failure(fmt::format("{} lacks an attribute", c.name));
  if (!test && !c.arguments.named.empty()) refuse(fmt::format("{} with named arguments alone", c.name));
  return generator(depth_of(c), [&run = c.run, next = c.run.iterate(c.input), test,
                                 path = kAttribute ? path_of(&c.arguments.positional.front()) : List{}] {
    auto item = next();
    for (; item; item = next()) {
      const Value value = at_path(run, *item, path);
      if ((test ? call_test(run, test->name, value, test->arguments) : value.truthy()) == kKeep) break;
    }
    return item;
  });
}

Value f_int(const Call& c) {
  const auto fallback = [&] { return c.get(0) == nullptr ? Value(std::int64_t{0}) : *c.get(0); };
  if (const auto* undefined = c.input.as<Undefined>()) fail_undefined(*undefined);
  if (c.input.shared<const Markup>() != nullptr) c.refuse_input();
  const std::int64_t base = c.integer(1, 10);
  std::int64_t whole = 0;
  if (c.input.integer(whole)) return whole;
  double number = 0;
  if (const auto* text = c.input.text()) {
    if (const auto parsed = parse_int(*text, base)) return *parsed;
    const auto parsed = parse_float(*text);
    if (!parsed) return fallback();
    number = *parsed;
  } else if (!c.input.number(number)) {
    return fallback();
  }
  // Infinity is caught in a text, and not in a number.
  if (std::isinf(number) && c.input.text() != nullptr) return fallback();
  if (!(std::fabs(number) < 0x1p63)) refuse("so large an int");
  return static_cast<std::int64_t>(number);
}
Value f_float(const Call& c) {
  if (const auto* undefined = c.input.as<Undefined>()) fail_undefined(*undefined);
  if (c.input.shared<const Markup>() != nullptr) c.refuse_input();
  double number = 0;
  if (c.input.number(number)) return number;
  if (const auto* text = c.input.text()) {
    if (const auto parsed = parse_float(*text)) return *parsed;
  }
  return c.get(0) == nullptr ? Value(0.0) : *c.get(0);
}
Value f_abs(const Call& c) {
  double number = 0;
  if (!c.input.number(number)) c.refuse_input();
  if (c.input.as<double>() != nullptr) return std::fabs(number);
  return arithmetic(c.run, number < 0 ? "-" : "+", std::int64_t{0}, c.input);
}
Value f_round(const Call& c) {
  double number = 0;
  if (!c.input.number(number)) c.refuse_input();
  const std::int64_t precision = c.integer(0, 0);
  const std::string method = c.get(1) == nullptr ? "common" : c.text(1);
  if (method != "common" && method != "ceil" && method != "floor")
    throw Failure("round knows common, ceil and floor");
  const bool whole = c.input.as<double>() == nullptr;
  if (precision < 0 || precision > 22) refuse(fmt::format("round to {} digits", precision));
  if (method == "common") {
    if (whole) return arithmetic(c.run, "+", std::int64_t{0}, c.input);
    if (std::isinf(number)) return number;
    return *parse_float(fmt::format("{:.{}f}", number, precision));  // Correctly rounded, half to even.
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));  // Exact.
  const double scaled = number * scale;
  const double out = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  if (!(std::fabs(scaled) < 0x1p53) || !(scale < 0x1p53)) refuse("so large a number to round");
  return (out == 0 ? 0.0 : out) / scale;
}
Value f_sum(const Call& c) {
  const List path = path_of(c.get(0));
  Value total = c.get(1) == nullptr ? Value(std::int64_t{0}) : *c.get(1);
  std::int64_t number = 0;
  if (!total.integer(number)) c.refuse_argument(1);
  const auto next = c.run.iterate(c.input);
  while (const auto item = next()) {
    const Value value = at_path(c.run, *item, path);
    if (!value.integer(number)) refuse(fmt::format("sum of a {}", value.type_name()));
    total = arithmetic(c.run, "+", total, value);
  }
  return total;
}

Value f_tojson(const Call& c) {
  JsonStyle style;
  style.ensure_ascii = c.flag(0);
  style.sort_keys = c.flag(3);
  if (const Value* indent = c.get(1); indent != nullptr && !indent->is_none()) {
    style.multiline = true;
    style.item_separator = std::string(1, ',');
    const auto spaces = indent->text() != nullptr ? 0 : std::max<std::int64_t>(c.integer(1, 0), 0);
    if (spaces > 1000) c.refuse_argument(1);
    style.indent =
        indent->text() != nullptr ? *indent->text() : std::string(static_cast<std::size_t>(spaces), ' ');
  }
  if (const Value* separators = c.get(2); separators != nullptr && !separators->is_none()) {
    const List both = c.run.items_of(*separators);
    if (both.size() != 2 || both[0].text() == nullptr || both[1].text() == nullptr) c.refuse_argument(2);
    style.item_separator = *both[0].text();
    style.key_separator = *both[1].text();
  }
  if (const auto* markup = c.input.shared<const Markup>())
    return c.run.made(to_json(markup->text, style, c.run.budget));
  return c.run.made(to_json(c.input, style, c.run.budget));
}

Value f_indent(const Call& c) {
  if (c.input.text() == nullptr) c.refuse_input();
  const bool given = c.get(0) != nullptr && c.get(0)->text() != nullptr;
  const std::int64_t width = given ? 0 : std::max<std::int64_t>(c.integer(0, 4), 0);
  if (width > 1000) c.refuse_argument(0);
  const std::string pad = given ? *c.get(0)->text() : std::string(static_cast<std::size_t>(width), ' ');
  std::string out = c.flag(1) ? pad : "";
  // Jinja adds this newline for splitlines(), which loses it again.
  const std::string text = *c.input.text() + "\n";
  bool first = true;
  for (const std::string_view line : split_lines(c.run.budget, text, false)) {
    append(c.run.budget, out, first ? "" : "\n", first || (!c.flag(2) && line.empty()) ? "" : pad);
    append(c.run.budget, out, line, "");
    first = false;
  }
  return c.run.made(std::move(out));
}

constexpr Builtin kFilters[] = {
    {"trim", f_trim, {"chars"}, 0, true},
    {"length", f_length},
    {"count", f_length},
    {"default", f_default, {"default_value", "boolean"}, 0, true},
    {"d", f_default, {"default_value", "boolean"}, 0, true},
    {"string", f_case<same>},
    {"safe", f_safe},
    {"upper", f_case<upper>},
    {"lower", f_case<lower>},
    {"title", f_case<title_filter>},
    {"capitalize", f_case<capitalize>},
    {"replace", f_replace, {"old", "new", "count"}, 2, true},
    {"join", f_join, {"d", "attribute"}, 0, true},
    {"list", f_list},
    {"first", f_first},
    {"last", f_last},
    {"reverse", f_reverse},
    {"items", f_items},
    {"sort", f_sort, {"reverse", "case_sensitive", "attribute"}, 0, true},
    {"dictsort", f_dictsort, {"case_sensitive", "by", "reverse"}, 0, true},
    {"unique", f_unique, {"case_sensitive", "attribute"}, 0, true},
    {"map", f_map, {}, 0, true, true},
    {"select", f_select<false, true>, {}, 0, true, true},
    {"reject", f_select<false, false>, {}, 0, true, true},
    {"selectattr", f_select<true, true>, {}, 0, true, true},
    {"rejectattr", f_select<true, false>, {}, 0, true, true},
    {"int", f_int, {"default", "base"}, 0, true},
    {"float", f_float, {"default"}, 0, true},
    {"abs", f_abs},
    {"round", f_round, {"precision", "method"}, 0, true},
    {"sum", f_sum, {"attribute", "start"}, 0, true},
    {"max", f_extreme<true>, {"case_sensitive", "attribute"}, 0, true},
    {"min", f_extreme<false>, {"case_sensitive", "attribute"}, 0, true},
    {"tojson", f_tojson, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, true},
    {"indent", f_indent, {"width", "first", "blank"}, 0, true},
};

}  // namespace

Value call_filter(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments) {
  const Builtin* known = find_builtin(kFilters, name);
  if (known == nullptr) refuse(fmt::format("the filter {}", base::printable(name, 60)));
  return invoke(run, *known, input, arguments);
}

}  // namespace tte::text::jinja
