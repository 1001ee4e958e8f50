// The filters of chat templates.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>

#include "base/printable.h"
#include "text/jinja/call.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

using Filter = Value (*)(const Call&);

// item.a.b for "a.b"; a number picks an item.
Value attribute_of(const Call& call, Value item, const Value& path) {
  std::int64_t index = 0;
  if (path.integer(index)) return get_item(call.run, item, path, call.line);
  if (path.text() == nullptr) call.fail(fmt::format("a {} is not an attribute", path.type_name()));
  const std::string dot = ".";
  for (const std::string_view part : split(*path.text(), &dot, -1, false)) {
    const bool number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    std::int64_t at = 0;
    if (number) std::from_chars(part.data(), part.data() + part.size(), at);
    item = get_item(call.run, item, number ? Value(at) : Value(part), call.line);
  }
  return item;
}

Value f_trim(const Call& c) {
  const Value* chars = c.get(0, "chars");
  const std::string* set = chars == nullptr ? nullptr : chars->text();
  return c.run.made(std::string(strip(c.text(), set, true, true)));
}
Value f_length(const Call& c) {
  if (const auto* text = c.input.text()) return length(*text);
  if (const auto* list = c.input.list()) return static_cast<std::int64_t>(list->size());
  if (const auto* dict = c.input.dict(); dict != nullptr && !dict->is_namespace) {
    return static_cast<std::int64_t>(dict->items.size());
  }
  if (c.input.is_undefined()) return std::int64_t{0};
  c.fail(fmt::format("a {} has no length", c.input.type_name()));
}
Value f_default(const Call& c) {
  const bool missing = c.input.is_undefined() || (c.flag(1, "boolean", false) && !c.input.truthy());
  if (!missing) return c.input;
  const Value* fallback = c.get(0, "default_value");
  return fallback == nullptr ? Value("") : *fallback;
}
Value f_string(const Call& c) {
  return c.run.made(c.text());
}
Value f_upper(const Call& c) {
  return c.run.made(upper(c.text()));
}
Value f_lower(const Call& c) {
  return c.run.made(lower(c.text()));
}
Value f_title(const Call& c) {
  return c.run.made(title_filter(c.text()));
}
Value f_capitalize(const Call& c) {
  return c.run.made(capitalize(c.text()));
}
Value f_same(const Call& c) {
  return c.input;
}

Value f_replace(const Call& c) {
  const std::string text = c.text();
  const std::string what = c.need(0, "old").str();
  const std::string by = c.need(1, "new").str();
  c.run.scan(text.size(), what.size() + 1);
  c.run.expect_room(c.line, text.size() / std::max<std::size_t>(what.size(), 1) + 1, by.size());
  return c.run.made(replace(text, what, by, c.integer(2, "count", -1)));
}

Value f_join(const Call& c) {
  const auto items = c.items();
  const Value* separator = c.get(0, "d");
  const std::string between = separator == nullptr ? "" : separator->str();
  const Value* attribute = c.get(1, "attribute");
  std::string out;
  c.run.expect_room(c.line, items->size(), between.size());
  for (std::size_t i = 0; i < items->size(); ++i) {
    if (i > 0) out += between;
    out += (attribute == nullptr ? (*items)[i] : attribute_of(c, (*items)[i], *attribute)).str();
    c.run.expect_room(c.line, 1, out.size());
  }
  return c.run.made(std::move(out));
}

Value f_list(const Call& c) {
  List items(*c.items());
  items.is_tuple = false;
  return c.run.made(std::move(items));
}
Value f_first(const Call& c) {
  const auto items = c.items();
  return items->empty() ? Value(Undefined{"the first item of nothing"}) : items->front();
}
Value f_last(const Call& c) {
  const auto items = c.items();
  return items->empty() ? Value(Undefined{"the last item of nothing"}) : items->back();
}
Value f_reverse(const Call& c) {
  if (const auto* text = c.input.text()) {
    std::string out;
    const auto parts = characters(*text);
    for (auto it = parts.rbegin(); it != parts.rend(); ++it) out += *it;
    return c.run.made(std::move(out));
  }
  List out(*c.items());
  out.is_tuple = false;
  std::reverse(out.begin(), out.end());
  return c.run.made(std::move(out));
}

Value f_items(const Call& c) {
  if (c.input.is_undefined()) return List{};
  const Dict* dict = c.input.dict();
  if (dict == nullptr || dict->is_namespace)
    c.fail(fmt::format("a {} is not a mapping", c.input.type_name()));
  List out;
  for (const auto& [key, value] : dict->items) {
    List pair{Value(key), value};
    pair.is_tuple = true;
    out.push_back(c.run.made(std::move(pair)));
  }
  return c.run.made(std::move(out));
}

// Orders numbers, or strings (without case unless asked for).
bool less(const Call& c, const Value& a, const Value& b, bool case_sensitive) {
  if (a.text() != nullptr && b.text() != nullptr && !case_sensitive)
    return lower(*a.text()) < lower(*b.text());
  return compares(c.run, "<", a, b, c.line);
}

template <typename Key>
void sort_by(const Call& c, List& items, bool reverse, bool case_sensitive, Key key) {
  c.run.step(static_cast<std::int64_t>(items.size()) * 20);
  std::stable_sort(items.begin(), items.end(), [&](const Value& a, const Value& b) {
    return reverse ? less(c, key(b), key(a), case_sensitive) : less(c, key(a), key(b), case_sensitive);
  });
}

Value f_sort(const Call& c) {
  List items(*c.items());
  items.is_tuple = false;
  const Value* attribute = c.get(2, "attribute");
  sort_by(c, items, c.flag(0, "reverse", false), c.flag(1, "case_sensitive", false), [&](const Value& item) {
    return attribute == nullptr || attribute->is_none() ? item : attribute_of(c, item, *attribute);
  });
  return c.run.made(std::move(items));
}
Value f_dictsort(const Call& c) {
  const Value* by = c.get(1, "by");
  const std::size_t index = by != nullptr && by->text() != nullptr && *by->text() == "value" ? 1 : 0;
  List items(*f_items(c).list());
  sort_by(c, items, c.flag(2, "reverse", false), c.flag(0, "case_sensitive", false),
          [&](const Value& pair) { return (*pair.list())[index]; });
  return c.run.made(std::move(items));
}

Value f_unique(const Call& c) {
  List out;
  const bool case_sensitive = c.flag(0, "case_sensitive", false);
  const auto key = [&](const Value& item) {
    return item.text() != nullptr && !case_sensitive ? Value(lower(*item.text())) : item;
  };
  for (const Value& item : *c.items()) {
    if (std::none_of(out.begin(), out.end(),
                     [&](const Value& known) { return c.run.same(key(known), key(item)); })) {
      out.push_back(item);
    }
  }
  return c.run.made(std::move(out));
}

// The arguments without the first `n`.
Arguments rest_of(const Arguments& arguments, std::size_t n) {
  Arguments rest;
  const auto skip = static_cast<std::ptrdiff_t>(std::min(n, arguments.positional.size()));
  rest.positional.assign(arguments.positional.begin() + skip, arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

Value f_map(const Call& c) {
  List out;
  const auto items = c.items();
  const Value* attribute = nullptr;
  for (const auto& [key, value] : c.arguments.named) {
    if (key == "attribute") attribute = &value;
  }
  if (attribute != nullptr && c.arguments.positional.empty()) {
    const Value* fallback = nullptr;
    for (const auto& [key, value] : c.arguments.named) {
      if (key == "default") fallback = &value;
    }
    for (const Value& item : *items) {
      Value value = attribute_of(c, item, *attribute);
      if (value.is_undefined() && fallback != nullptr) value = *fallback;
      out.push_back(std::move(value));
    }
    return c.run.made(std::move(out));
  }
  const Value& filter = c.need(0, "");
  if (filter.text() == nullptr) c.fail("the name of a filter is needed");
  const Arguments rest = rest_of(c.arguments, 1);
  for (const Value& item : *items) out.push_back(call_filter(c.run, *filter.text(), item, rest, c.line));
  return c.run.made(std::move(out));
}

// select, reject (kAttribute false), selectattr, rejectattr.
template <bool kAttribute, bool kKeep>
Value f_select(const Call& c) {
  List out;
  const std::size_t skip = kAttribute ? 1 : 0;
  if (kAttribute && c.arguments.positional.empty()) c.fail("the name of an attribute is needed");
  const Value* test = c.arguments.positional.size() > skip ? &c.arguments.positional[skip] : nullptr;
  if (test != nullptr && test->text() == nullptr) c.fail("the name of a test is needed");
  const Arguments rest = rest_of(c.arguments, skip + 1);
  for (const Value& item : *c.items()) {
    const Value value = kAttribute ? attribute_of(c, item, c.arguments.positional.front()) : item;
    const bool passes =
        test == nullptr ? value.truthy() : call_test(c.run, *test->text(), value, rest, c.line);
    if (passes == kKeep) out.push_back(item);
  }
  return c.run.made(std::move(out));
}

Value f_int(const Call& c) {
  Value fallback(c.integer(0, "default", 0));
  double number = 0;
  std::int64_t whole = 0;
  if (c.input.integer(whole)) return whole;
  if (const auto* text = c.input.text()) {
    const std::string_view digits = strip(*text, nullptr, true, true);
    const char* begin = digits.data() + (digits.starts_with('+') ? 1 : 0);
    const char* end = digits.data() + digits.size();
    const auto base = static_cast<int>(c.integer(1, "base", 10));
    if (base < 2 || base > 36) c.fail(fmt::format("{} is not a base", base));
    if (const auto parsed = std::from_chars(begin, end, whole, base);
        parsed.ptr == end && parsed.ec == std::errc{}) {
      return whole;
    }
    if (const auto parsed = std::from_chars(begin, end, number);
        parsed.ptr != end || parsed.ec != std::errc{}) {
      return fallback;
    }
  } else if (!c.input.number(number)) {
    return fallback;
  }
  return std::fabs(number) < 9e18 ? Value(static_cast<std::int64_t>(number)) : fallback;
}
Value f_float(const Call& c) {
  double number = 0;
  if (c.input.number(number)) return number;
  if (const auto* text = c.input.text()) {
    const std::string_view digits = strip(*text, nullptr, true, true);
    const char* begin = digits.data() + (digits.starts_with('+') ? 1 : 0);
    const char* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(begin, end, number);
    if (begin != end && parsed.ptr == end && parsed.ec == std::errc{}) return number;
  }
  const Value* fallback = c.get(0, "default");
  return fallback == nullptr ? Value(0.0) : *fallback;
}
Value f_abs(const Call& c) {
  double number = 0;
  if (!c.input.number(number)) c.fail(fmt::format("a {} is not a number", c.input.type_name()));
  return number < 0 ? arithmetic(c.run, "-", Value(std::int64_t{0}), c.input, c.line) : c.input;
}
Value f_round(const Call& c) {
  double number = 0;
  if (!c.input.number(number)) c.fail(fmt::format("a {} is not a number", c.input.type_name()));
  const double scale =
      std::pow(10.0, static_cast<double>(std::clamp<std::int64_t>(c.integer(0, "precision", 0), -300, 300)));
  const Value* how = c.get(1, "method");
  const std::string method = how == nullptr ? "common" : how->str();
  if (method == "ceil") return std::ceil(number * scale) / scale;
  if (method == "floor") return std::floor(number * scale) / scale;
  if (method != "common") c.fail(fmt::format("the method {} is not known", base::printable(method)));
  return std::nearbyint(number * scale) / scale;  // Half to even, as Python's round().
}
Value f_sum(const Call& c) {
  const Value* attribute = c.get(0, "attribute");
  const Value* start = c.get(1, "start");
  Value total = start == nullptr ? Value(std::int64_t{0}) : *start;
  for (const Value& item : *c.items()) {
    const bool whole = attribute == nullptr || attribute->is_none();
    total = arithmetic(c.run, "+", total, whole ? item : attribute_of(c, item, *attribute), c.line);
  }
  return total;
}
template <bool kMax>
Value f_extreme(const Call& c) {
  const auto items = c.items();
  if (items->empty()) return Undefined{"the extreme of nothing"};
  const Value* best = &items->front();
  for (const Value& item : *items) {
    if (kMax ? less(c, *best, item, false) : less(c, item, *best, false)) best = &item;
  }
  return *best;
}

Value f_tojson(const Call& c) {
  JsonStyle style;
  style.ensure_ascii = c.flag(0, "ensure_ascii", false);
  style.sort_keys = c.flag(3, "sort_keys", false);
  if (const Value* indent = c.get(1, "indent"); indent != nullptr && !indent->is_none()) {
    style.multiline = true;
    style.item_separator = std::string(1, ',');
    style.indent =
        indent->text() != nullptr
            ? *indent->text()
            : std::string(
                  static_cast<std::size_t>(std::clamp<std::int64_t>(c.integer(1, "indent", 0), 0, 64)), ' ');
  }
  if (const Value* separators = c.get(2, "separators"); separators != nullptr && !separators->is_none()) {
    const auto both = c.run.items_of(*separators, c.line);
    if (both->size() != 2) c.fail("separators are two strings");
    style.item_separator = both->front().str();
    style.key_separator = both->back().str();
  }
  std::string out;
  to_json(c.input, style, out);
  return c.run.made(std::move(out));
}

Value f_indent(const Call& c) {
  const Value* width = c.get(0, "width");
  const std::int64_t spaces = width != nullptr && width->text() == nullptr ? c.integer(0, "width", 4) : 4;
  const std::string pad =
      width != nullptr && width->text() != nullptr
          ? *width->text()
          : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(spaces, 0, 1000)), ' ');
  const bool blank = c.flag(2, "blank", false);
  std::string out = c.flag(1, "first", false) ? pad : "";
  const std::string text =
      c.text() + "\n";  // Jinja adds this newline for split_lines(), which loses it again.
  const auto lines = split_lines(text, false);
  c.run.expect_room(c.line, lines.size(), pad.size() + 1);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n").append(blank || !lines[i].empty() ? pad : "");
    out += lines[i];
  }
  return c.run.made(std::move(out));
}

Value f_escape(const Call& c) {
  std::string out;
  for (const char letter : c.text()) {
    switch (letter) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += letter;
    }
  }
  return c.run.made(std::move(out));
}

const std::map<std::string_view, Filter>& filters() {
  static const std::map<std::string_view, Filter> all = {
      {"trim", f_trim},
      {"length", f_length},
      {"count", f_length},
      {"default", f_default},
      {"d", f_default},
      {"string", f_string},
      {"safe", f_same},
      {"upper", f_upper},
      {"lower", f_lower},
      {"title", f_title},
      {"capitalize", f_capitalize},
      {"replace", f_replace},
      {"join", f_join},
      {"list", f_list},
      {"first", f_first},
      {"last", f_last},
      {"reverse", f_reverse},
      {"items", f_items},
      {"sort", f_sort},
      {"dictsort", f_dictsort},
      {"unique", f_unique},
      {"map", f_map},
      {"select", f_select<false, true>},
      {"reject", f_select<false, false>},
      {"selectattr", f_select<true, true>},
      {"rejectattr", f_select<true, false>},
      {"int", f_int},
      {"float", f_float},
      {"abs", f_abs},
      {"round", f_round},
      {"sum", f_sum},
      {"max", f_extreme<true>},
      {"min", f_extreme<false>},
      {"tojson", f_tojson},
      {"indent", f_indent},
      {"escape", f_escape},
      {"e", f_escape},
  };
  return all;
}

}  // namespace

Value call_filter(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments,
                  int line) {
  const auto known = filters().find(name);
  if (known == filters().end()) {
    run.fail(line, fmt::format("the filter {} is not supported by tte", base::printable(name)));
  }
  if (const auto* text = input.text()) run.scan(text->size(), 64);
  run.step();
  return known->second({run, name, input, arguments, line});
}

}  // namespace tte::text::jinja
