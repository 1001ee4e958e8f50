// The operators and the attributes of Python's values.
#include <algorithm>

#include "base/printable.h"
#include "text/characters.h"
#include "text/jinja/interpreter.h"

namespace tte::text::jinja {
namespace {

Value of_numbers(const std::string& op, std::int64_t a, std::int64_t b) {
  if (op == "<") return a < b;
  if (op == "<=") return a <= b;
  if (op == ">") return a > b;
  if (op == ">=") return a >= b;
  std::int64_t out = 0;
  if (op == "%") {
    if (b == 0) fail("a number is divided by zero");
    out = b == -1 ? 0 : a % b;
    return out != 0 && (out < 0) != (b < 0) ? out + b : out;  // Python rounds the quotient down.
  }
  if (op == "+" ? __builtin_add_overflow(a, b, &out) : __builtin_sub_overflow(a, b, &out))
    refuse("a number as large as {} {} {}", a, op, b);
  return out;
}

bool contains(Interpreter& run, const Value& item, const Value& container) {
  if (const auto* text = container.text()) {
    if (item.text() == nullptr) refuse("a {} in a str", item.type_name());
    run.budget.search(*text, *item.text());
    return text->find(*item.text()) != std::string::npos;
  }
  const List* list = container.list();
  const Dict* dict = container.dict();
  // Python hashes what it looks for among keys, and a list has no hash.
  const bool among_keys = dict != nullptr || (list != nullptr && list->kind == List::Kind::kView);
  const bool has_hash = item.list() == nullptr && item.dict() == nullptr;
  if (among_keys && !has_hash) refuse("a {} in a {}", item.type_name(), container.type_name());
  if (item.text() != nullptr) run.budget.work(item.text()->size());
  if (dict != nullptr) return item.text() != nullptr && dict->find(*item.text()) != nullptr;
  if (list != nullptr) {
    const auto same = [&](const Value& other) { return equal(item, other, run.budget); };
    return std::any_of(list->begin(), list->end(), same);
  }
  if (!container.is_undefined()) refuse("\"in\" a {}", container.type_name());
  return false;
}

// Whether Python's objects of this type have the attribute: as a value of its own it is refused.
bool python_has(const Value& object, const std::string& name) {
  // clang-format off
  static constexpr std::string_view kOfDicts =
      " clear copy fromkeys get items keys pop popitem setdefault update values ";
  static constexpr std::string_view kOfOthers =
      " append as_integer_ratio bit_count bit_length capitalize casefold center clear conjugate copy count denominator"
      " encode endswith expandtabs extend find format format_map from_bytes imag index insert is_integer isalnum"
      " isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join"
      " ljust lower lstrip maketrans numerator partition pop real remove removeprefix removesuffix replace reverse"
      " rfind rindex rjust rpartition rsplit rstrip sort split splitlines startswith strip swapcase title to_bytes"
      " translate upper zfill ";
  // clang-format on
  const bool is_other = object.text() != nullptr || object.list() != nullptr || object.integer();
  const std::string_view all = object.dict() != nullptr ? kOfDicts : is_other ? kOfOthers : "";
  return all.find(fmt::format(" {} ", name)) != std::string_view::npos;
}

}  // namespace

Value operate(Interpreter& run, const std::string& op, const Value& a, const Value& b) {
  if (op == "~") return run.made(str(a) + str(b));
  if (op == "in") return contains(run, a, b);
  if (op == "not in") return !contains(run, a, b);
  if (op == "==") return equal(a, b, run.budget);
  if (op == "!=") return !equal(a, b, run.budget);
  if (const auto i = a.integer(), j = b.integer(); i && j) return of_numbers(op, *i, *j);
  require_defined(a);
  if (op == "%" && a.text() != nullptr) refuse("str % {}", b.type_name());
  require_defined(b);
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) return run.made(*a.text() + *b.text());
  const bool are_lists = a.list() != nullptr && b.list() != nullptr && a.list()->kind == b.list()->kind;
  if (op == "+" && are_lists && a.list()->plain()) {
    List all = *a.list();
    all.insert(all.end(), b.list()->begin(), b.list()->end());
    return run.made(std::move(all));
  }
  refuse("{} {} {}", a.type_name(), op, b.type_name());
}

std::int64_t size_of(Interpreter& run, const Value& value) {
  if (const Dict* dict = value.dict()) return static_cast<std::int64_t>(dict->items.size());
  if (const List* list = value.list()) return static_cast<std::int64_t>(list->size());
  if (value.text() == nullptr) return 0;
  run.budget.work(value.text()->size());
  return count_characters(*value.text());
}

Value get_attribute(const Value& object, const std::string& name) {
  const std::string shown = base::printable(name, 60);
  const std::string what = fmt::format("the attribute {} of a {}", shown, object.type_name());
  if (name.starts_with("__")) refuse("{}", what);
  require_defined(object);
  const bool plain = object.list() != nullptr ? object.list()->plain()
                                              : object.function() == nullptr && object.markup() == nullptr;
  const bool hidden = object.names() != nullptr && name.starts_with('_');
  if (!plain || hidden || python_has(object, name)) refuse("{}", what);
  const Dict* dict = object.names() != nullptr ? object.names() : object.dict();
  const Value* value = dict == nullptr ? nullptr : dict->find(name);
  return value != nullptr ? *value : Value(Undefined{what});
}

Value get_item(Interpreter& run, const Value& object, const Value& key) {
  require_defined(object);
  const List* list = object.list();
  if ((list != nullptr && !list->plain()) || object.markup() != nullptr || key.markup() != nullptr)
    refuse("an item of a {}", object.type_name());
  if (const auto number = key.integer(); number && object.dict() == nullptr) {
    const std::int64_t size = size_of(run, object);
    const std::int64_t index = *number < 0 ? *number + size : *number;
    if (index < 0 || index >= size)
      return Undefined{fmt::format("item {} of a {}", *number, object.type_name())};
    if (list != nullptr) return (*list)[static_cast<std::size_t>(index)];
    return run.made(std::string(substring(*object.text(), index, 1)));
  }
  if (key.text() == nullptr) return Undefined{fmt::format("an item of a {}", object.type_name())};
  run.budget.work(key.text()->size());
  const Value* value = object.dict() == nullptr ? nullptr : object.dict()->find(*key.text());
  return value != nullptr ? *value : get_attribute(object, *key.text());
}

Value get_slice(Interpreter& run, const Value& object, const Value& begin, const Value& end,
                const Value& step) {
  const std::string* text = object.text();
  const List* list = object.list();
  if (text == nullptr && (list == nullptr || !list->plain())) refuse("a slice of a {}", object.type_name());
  const std::int64_t size = size_of(run, object);
  // As Python's slice.indices().
  const auto number = [](const Value& value, std::int64_t fallback) {
    const auto out = value.is_none() ? fallback : value.integer();
    if (!out) refuse("a {} as the bound of a slice", value.type_name());
    return *out;
  };
  const std::int64_t by = std::clamp(number(step, 1), -size - 1, size + 1);
  const std::int64_t least = by < 0 ? -1 : 0;
  const auto bound = [&](const Value& value, std::int64_t fallback) {
    const std::int64_t at = number(value, fallback);
    return value.is_none() ? at : std::clamp(at < 0 ? at + size : at, least, size + least);
  };
  const std::int64_t first = bound(begin, by < 0 ? size - 1 : 0);
  const std::int64_t last = bound(end, by < 0 ? -1 : size);
  if (by == 0) fail("the step of a slice is 0");
  if (text != nullptr) {
    if (by != 1) refuse("a slice of a str with a step");
    return run.made(std::string(substring(*text, first, last - first)));
  }
  List items(list->kind);
  for (std::int64_t i = first; by < 0 ? i > last : i < last; i += by) {
    items.push_back((*list)[static_cast<std::size_t>(i)]);
  }
  return run.made(std::move(items));
}

}  // namespace tte::text::jinja
