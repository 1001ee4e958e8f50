// The operators and the attributes of Python's values.
#include <algorithm>

#include "base/printable.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

std::int64_t whole(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  if (op == "%") {
    if (b == 0) throw Failure("a number is divided by zero");
    out = b == -1 ? 0 : a % b;
    return out != 0 && (out < 0) != (b < 0) ? out + b : out;  // Python rounds the quotient down.
  }
  if (op == "+" ? __builtin_add_overflow(a, b, &out) : __builtin_sub_overflow(a, b, &out)) {
    refuse(fmt::format("a number as large as {} {} {}", a, op, b));
  }
  return out;
}

bool contains(Interpreter& run, const Value& item, const Value& container) {
  if (const auto* text = container.text()) {
    if (item.text() == nullptr) refuse(fmt::format("a {} in a str", item.type_name()));
    pay_for_search(run.budget, *text, *item.text());
    return text->find(*item.text()) != std::string::npos;
  }
  if (const auto* list = container.list()) {
    // Python hashes what it looks for among keys, and a list has no hash.
    if (list->kind == List::Kind::kView && (item.list() != nullptr || item.dict() != nullptr))
      refuse(fmt::format("a {} in a view", item.type_name()));
    return std::any_of(list->begin(), list->end(),
                       [&](const Value& other) { return equal(item, other, run.budget); });
  }
  if (const auto* dict = container.dict()) {
    if (item.list() != nullptr || item.dict() != nullptr)
      refuse(fmt::format("a {} in a dict", item.type_name()));
    run.budget.step(1 + static_cast<std::int64_t>(dict->items.size() / 8));
    return item.text() != nullptr && dict->find(*item.text()) != nullptr;
  }
  if (!container.is_undefined()) refuse(fmt::format("\"in\" a {}", container.type_name()));
  return false;
}

// Whether Python's objects of this type have the attribute: as a value of its own it is refused.
bool python_has(const Value& object, const std::string& name) {
  static constexpr std::string_view kOfDicts =
      " clear copy fromkeys get items keys pop popitem setdefault update values ";
  static constexpr std::string_view kOfOthers =
      " append as_integer_ratio bit_count bit_length capitalize casefold center clear conjugate copy count "
      "denominator"
      " encode endswith expandtabs extend find format format_map from_bytes imag index insert is_integer "
      "isalnum isalpha"
      " isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join "
      "ljust lower"
      " lstrip maketrans numerator partition pop real remove removeprefix removesuffix replace reverse rfind "
      "rindex rjust"
      " rpartition rsplit rstrip sort split splitlines startswith strip swapcase title to_bytes translate "
      "upper zfill ";
  const bool is_other = object.text() != nullptr || object.list() != nullptr || object.integer();
  const std::string_view all = object.dict() != nullptr ? kOfDicts : is_other ? kOfOthers : "";
  return all.find(fmt::format(" {} ", name)) != std::string_view::npos;
}

// +, - and %
Value arithmetic(Interpreter& run, const std::string& op, const Value& a, const Value& b) {
  const auto i = a.integer();
  const auto j = b.integer();
  if (i && j) return whole(op, *i, *j);
  for (const Value* value : {&a, &b}) {
    if (const auto* undefined = value->as<Undefined>();
        undefined != nullptr && !(op == "%" && a.text() != nullptr)) {
      fail_undefined(*undefined);
    }
  }
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) return run.made(*a.text() + *b.text());
  if (op == "+" && a.list() != nullptr && b.list() != nullptr && a.list()->plain() &&
      a.list()->kind == b.list()->kind) {
    List joined(a.list()->kind);
    joined.reserve(a.list()->size() + b.list()->size());
    joined.insert(joined.end(), a.list()->begin(), a.list()->end());
    joined.insert(joined.end(), b.list()->begin(), b.list()->end());
    return run.made(std::move(joined));
  }
  refuse(fmt::format("{} {} {}", a.type_name(), op, b.type_name()));
}

}  // namespace

Value operate(Interpreter& run, const std::string& op, const Value& a, const Value& b) {
  if (op == "~") return run.made(str(a) + str(b));
  return op == "+" || op == "-" || op == "%" ? arithmetic(run, op, a, b) : compares(run, op, a, b);
}

bool compares(Interpreter& run, const std::string& op, const Value& a, const Value& b) {
  if (op == "in") return contains(run, a, b);
  if (op == "not in") return !contains(run, a, b);
  if (op == "==") return equal(a, b, run.budget);
  if (op == "!=") return !equal(a, b, run.budget);
  const auto i = a.integer();
  const auto j = b.integer();
  if (!i || !j) refuse(fmt::format("{} {} {}", a.type_name(), op, b.type_name()));
  if (op == "<") return *i < *j;
  if (op == "<=") return *i <= *j;
  return op == ">" ? *i > *j : *i >= *j;
}

Value get_attribute(const Value& object, const std::string& name) {
  const std::string shown = base::printable(name, 60);
  const std::string what = fmt::format("the attribute {} of a {}", shown, object.type_name());
  if (name.starts_with("__")) refuse(what);
  if (const auto* undefined = object.as<Undefined>()) {
    throw Failure(fmt::format("{} is not defined, so it has no attribute {}",
                              base::printable(undefined->name, 60), shown));
  }
  const bool plain = object.list() != nullptr ? object.list()->plain()
                                              : object.function() == nullptr && object.markup() == nullptr;
  const bool hidden = object.names() != nullptr && name.starts_with('_');
  if (!plain || hidden || python_has(object, name)) refuse(what);
  const Dict* dict = object.names() != nullptr ? object.names() : object.dict();
  const Value* value = dict == nullptr ? nullptr : dict->find(name);
  return value != nullptr ? *value : Value(Undefined{what});
}

Value get_item(Interpreter& run, const Value& object, const Value& key) {
  if (const auto* undefined = object.as<Undefined>()) {
    throw Failure(fmt::format("{} is not defined, so it has no items", base::printable(undefined->name, 60)));
  }
  const List* list = object.list();
  const std::string* text = object.text();
  if ((list != nullptr && !list->plain()) || object.markup() != nullptr || key.markup() != nullptr) {
    refuse(fmt::format("an item of a {}", object.type_name()));
  }
  if (const auto number = key.integer()) {
    if (text != nullptr) run.budget.work(text->size());
    const std::int64_t size = list != nullptr   ? static_cast<std::int64_t>(list->size())
                              : text != nullptr ? length(*text)
                                                : 0;
    const std::int64_t index = *number < 0 ? *number + size : *number;
    if (index < 0 || index >= size)
      return Undefined{fmt::format("item {} of a {}", *number, object.type_name())};
    if (list != nullptr) return (*list)[static_cast<std::size_t>(index)];
    const std::string_view rest = std::string_view(*text).substr(offset_of(*text, index));
    return run.made(std::string(rest.substr(0, offset_of(rest, 1))));
  }
  if (key.text() == nullptr) return Undefined{fmt::format("an item of a {}", object.type_name())};
  if (const auto* dict = object.dict()) {
    run.budget.step(static_cast<std::int64_t>(dict->items.size() / 8));
    if (const Value* value = dict->find(*key.text())) return *value;
  }
  return get_attribute(object, *key.text());
}

Value get_slice(Interpreter& run, const Value& object, const Value& begin, const Value& end, bool reversed) {
  const std::string* text = object.text();
  const List* list = object.list();
  if ((text == nullptr && (list == nullptr || !list->plain())) || (text != nullptr && reversed)) {
    refuse(fmt::format("a slice{} of a {}", reversed ? " [::-1]" : "", object.type_name()));
  }
  if (text != nullptr) run.budget.work(text->size());
  const auto size = text != nullptr ? length(*text) : static_cast<std::int64_t>(list->size());
  const auto bound = [&](const Value& value, std::int64_t fallback) {
    if (value.is_none()) return fallback;
    const auto at = value.integer();
    if (!at) refuse(fmt::format("a {} as the bound of a slice", value.type_name()));
    return std::clamp<std::int64_t>(*at < 0 ? *at + size : *at, 0, size);
  };
  const std::int64_t first = bound(begin, 0);
  const std::int64_t last = std::max(bound(end, size), first);
  if (text != nullptr) {
    const std::string_view rest = std::string_view(*text).substr(offset_of(*text, first));
    return run.made(std::string(rest.substr(0, offset_of(rest, last - first))));
  }
  List items(list->kind);
  items.assign(list->begin() + first, list->begin() + last);
  if (reversed) std::reverse(items.begin(), items.end());
  return run.made(std::move(items));
}

}  // namespace tte::text::jinja
