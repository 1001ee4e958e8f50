#include "text/jinja/value.h"

#include <fmt/core.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "text/utf8.h"

namespace tte::text::jinja {
namespace {

int nested(int depth) {
  if (depth < kMaxNesting) return depth + 1;
  throw Failure(fmt::format("a value that nests deeper than {} levels is not supported by tte", kMaxNesting));
}

bool printable(char32_t c) {
  if (c == ' ') return true;
  constexpr std::uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
}

// The letter that both Python and JSON write after a backslash; 0 if there is none.
char short_escape(char32_t c) {
  return c == '\\' ? '\\' : c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : '\0';
}

void string_repr(std::string_view text, std::string& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    const char letter = c == static_cast<unsigned char>(quote) ? quote : short_escape(c);
    if (letter != '\0') {
      out.append(1, '\\').append(1, letter);
    } else if (printable(c)) {
      out += text.substr(begin, at - begin);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      out += c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<unsigned>(c))
                         : fmt::format("\\U{:08x}", static_cast<unsigned>(c));
    }
  }
  out += quote;
}

void json_string(std::string_view text, bool ensure_ascii, std::string& out) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    const char letter = c == '"' ? '"' : c == '\b' ? 'b' : c == '\f' ? 'f' : short_escape(c);
    if (letter != '\0') {
      out.append(1, '\\').append(1, letter);
    } else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else if (ensure_ascii && c >= 0x10000) {
      const unsigned v = static_cast<unsigned>(c) - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (v >> 10), 0xDC00 + (v & 0x3FF));
    } else {
      out += text.substr(begin, at - begin);
    }
  }
  out += '"';
}

// repr() of a float.
std::string float_repr(double value) {
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const double magnitude = std::fabs(value);
  std::array<char, 400> buffer{};
  const bool plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(buffer.data(), end);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

// Pays for what is appended to `out`, and keeps it below kMaxText.
class Writer {
 public:
  explicit Writer(Budget& budget) : budget_(budget) {}
  std::string out;

  void repr(const Value& value) {
    pay();
    if (value.is_undefined()) {
      out += "Undefined";
    } else if (value.is_none()) {
      out += "None";
    } else if (const auto* b = value.as<bool>()) {
      out += *b ? "True" : "False";
    } else if (const auto* i = value.as<std::int64_t>()) {
      out += std::to_string(*i);
    } else if (const auto* d = value.as<double>()) {
      out += float_repr(*d);
    } else if (const auto* t = value.text()) {
      budget_.work(t->size());
      string_repr(*t, out);
    } else if (const auto* l = value.list()) {
      sequence(*l);
    } else if (const auto* m = value.dict()) {
      out += '{';
      for (std::size_t k = 0; k < m->items.size(); ++k) {
        if (k > 0) out += ", ";
        string_repr(m->items[k].first, out);
        out += ": ";
        repr(m->items[k].second);
      }
      out += '}';
    } else {
      throw Failure(fmt::format("the text of a {} is not supported by tte", value.type_name()));
    }
  }

  void json(const Value& value, const JsonStyle& style, int depth = 0) {
    pay();
    if (value.is_none()) {
      out += "null";
    } else if (const auto* b = value.as<bool>()) {
      out += *b ? "true" : "false";
    } else if (const auto* d = value.as<double>()) {
      out += std::isinf(*d) ? (*d < 0 ? "-Infinity" : "Infinity") : float_repr(*d);
    } else if (value.as<std::int64_t>() != nullptr) {
      repr(value);
    } else if (const auto* t = value.text()) {
      budget_.work(t->size());
      json_string(*t, style.ensure_ascii, out);
    } else if (const auto* l = value.list(); l != nullptr && l->kind <= List::Kind::kTuple) {
      block(*l, '[', ']', style, depth, [&](const Value& item) { json(item, style, depth + 1); });
    } else if (const auto* m = value.dict()) {
      auto items = m->items;
      budget_.step(static_cast<std::int64_t>(items.size()));
      if (style.sort_keys) {
        std::stable_sort(items.begin(), items.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
      }
      block(items, '{', '}', style, depth, [&](const auto& item) {
        json_string(item.first, style.ensure_ascii, out);
        out += style.key_separator;
        json(item.second, style, depth + 1);
      });
    } else {
      throw Failure(fmt::format("a {} as JSON is not supported by tte", value.type_name()));
    }
  }

 private:
  void pay() {
    budget_.step();
    if (out.size() > kMaxText) throw Failure(fmt::format("a text becomes longer than {} bytes", kMaxText));
  }

  void sequence(const List& list) {
    using Kind = List::Kind;
    if (list.kind == Kind::kRange) {
      out += list.shown;
      return;
    }
    const bool tuple = list.kind == Kind::kTuple;
    if (list.kind == Kind::kKeys) out += "dict_keys(";
    if (list.kind == Kind::kValues) out += "dict_values(";
    if (list.kind == Kind::kItems) out += "dict_items(";
    out += tuple ? '(' : '[';
    for (std::size_t k = 0; k < list.size(); ++k) {
      if (k > 0) out += ", ";
      repr(list[k]);
    }
    if (tuple && list.size() == 1) out += ',';
    out += tuple ? ')' : ']';
    if (list.kind >= Kind::kKeys) out += ')';
  }

  // Items between brackets, in one line or one per line.
  template <typename Items, typename Write>
  void block(const Items& items, char open, char close, const JsonStyle& style, int depth, Write write) {
    out += open;
    const auto newline = [&](int levels) {
      if (!style.multiline) return;
      out += '\n';
      for (int i = 0; i < levels; ++i) out += style.indent;
      pay();
    };
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += style.item_separator;
      first = false;
      newline(depth + 1);
      write(item);
    }
    if (!first) newline(depth);
    out += close;
  }

  Budget& budget_;
};

// a < b, a == b or a > b as -1, 0, 1, exactly: not every int is a double.
int compare_numbers(std::int64_t a, double b) {
  if (b >= 0x1p63) return -1;
  if (b < -0x1p63) return 1;
  const auto whole = static_cast<std::int64_t>(b);
  if (a != whole) return a < whole ? -1 : 1;
  const double rest = b - static_cast<double>(whole);
  return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

std::optional<int> number_order(const Value& a, const Value& b) {
  std::int64_t i = 0;
  std::int64_t j = 0;
  const bool a_int = a.integer(i);
  const bool b_int = b.integer(j);
  if (a_int && b_int) return i < j ? -1 : i > j ? 1 : 0;
  const double* x = a.as<double>();
  const double* y = b.as<double>();
  if (a_int && y != nullptr) return compare_numbers(i, *y);
  if (x != nullptr && b_int) return -compare_numbers(j, *x);
  if (x != nullptr && y != nullptr) return *x < *y ? -1 : *x > *y ? 1 : 0;
  return std::nullopt;
}

}  // namespace

Value::Value(List list) {
  int depth = 0;
  for (const Value& item : list) depth = std::max(depth, item.depth());
  list.depth = nested(depth);
  data_ = std::make_shared<const List>(std::move(list));
}
Value::Value(Dict dict) {
  int depth = 0;
  for (const auto& item : dict.items) depth = std::max(depth, item.second.depth());
  dict.depth = nested(depth);
  data_ = std::make_shared<const Dict>(std::move(dict));
}
Value::Value(Function function) {
  function.depth = nested(function.depth);
  data_ = std::make_shared<const Function>(std::move(function));
}
Value::Value(Iterator iterator) {
  iterator.depth = nested(iterator.depth);
  data_ = std::make_shared<Iterator>(std::move(iterator));
}

List tuple_of(std::vector<Value> items) {
  List out;
  static_cast<std::vector<Value>&>(out) = std::move(items);
  out.kind = List::Kind::kTuple;
  return out;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Dict::set(std::string_view key, Value value) {
  for (auto& [name, old] : items) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

bool Value::integer(std::int64_t& value) const {
  if (const auto* i = as<std::int64_t>()) {
    value = *i;
    return true;
  }
  if (const auto* b = as<bool>()) {
    value = *b ? 1 : 0;
    return true;
  }
  return false;
}

bool Value::number(double& value) const {
  if (const auto* d = as<double>()) {
    value = *d;
    return true;
  }
  std::int64_t i = 0;
  if (!integer(i)) return false;
  value = static_cast<double>(i);
  return true;
}

bool Value::truthy() const {
  double n = 0;
  if (number(n)) return n != 0;
  if (const auto* t = text()) return !t->empty();
  if (const auto* m = shared<const Markup>()) return !m->text.empty();
  if (const auto* l = list()) return !l->empty();
  if (const auto* d = dict()) return !d->items.empty();
  return !is_undefined() && !is_none();
}

const char* Value::type_name() const {
  constexpr std::array<const char*, 13> kNames = {"undefined", "NoneType",  "bool", "int",       "float",
                                                  "str",       "list",      "dict", "Namespace", "function",
                                                  "generator", "safe text", "loop"};
  constexpr std::array<const char*, 6> kSequences = {"list",      "tuple",       "range",
                                                     "dict_keys", "dict_values", "dict_items"};
  if (const auto* l = list()) return kSequences[static_cast<std::size_t>(l->kind)];
  return kNames[data_.index()];
}

int Value::depth() const {
  if (const auto* l = list()) return l->depth;
  if (const auto* d = dict()) return d->depth;
  if (const auto* f = function()) return f->depth;
  if (const auto* i = iterator()) return i->depth;
  return 0;
}

void Budget::step(std::int64_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) throw Failure(fmt::format("it takes more than {} steps", kMaxSteps));
}

void Budget::take(std::size_t count, std::size_t size) {
  const std::size_t left = kMaxBytes - bytes_;
  if (size != 0 && count > left / size) {
    throw Failure(fmt::format("it needs more than {} bytes of memory", kMaxBytes));
  }
  bytes_ += count * size;
  work(count * size, 256);
}

std::string str(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  if (const auto* t = value.text()) return *t;
  if (const auto* m = value.shared<const Markup>()) return m->text;
  Writer writer(budget);
  writer.repr(value);
  return std::move(writer.out);
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  Writer writer(budget);
  writer.json(value, style);
  return std::move(writer.out);
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (const auto numbers = number_order(a, b)) return *numbers == 0;
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.work(std::min(a.text()->size(), b.text()->size()));
    return *a.text() == *b.text();
  }
  if (a.list() != nullptr && b.list() != nullptr) {
    const auto kind = a.list()->kind;
    if (kind >= List::Kind::kKeys || b.list()->kind >= List::Kind::kKeys) {
      throw Failure(
          fmt::format("the comparison of {} and {} is not supported by tte", a.type_name(), b.type_name()));
    }
    return kind == b.list()->kind &&
           std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(),
                      [&](const Value& p, const Value& q) { return equal(p, q, budget); });
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    return std::all_of(a.dict()->items.begin(), a.dict()->items.end(), [&](const auto& item) {
      budget.step(1 + static_cast<std::int64_t>(b.dict()->items.size() / 16));
      const Value* other = b.dict()->find(item.first);
      return other != nullptr && equal(item.second, *other, budget);
    });
  }
  for (const Value* value : {&a, &b}) {
    if (value->function() != nullptr || value->iterator() != nullptr || value->shared<const Markup>()) {
      throw Failure(fmt::format("the comparison of a {} is not supported by tte", value->type_name()));
    }
  }
  if (a.names() != nullptr) return a.names() == b.names();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

std::optional<int> order(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (const auto numbers = number_order(a, b)) return numbers;
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.work(std::min(a.text()->size(), b.text()->size()));
    const int sign = a.text()->compare(*b.text());  // The order of UTF-8 is that of code points.
    return sign < 0 ? -1 : sign > 0 ? 1 : 0;
  }
  const List* p = a.list();
  const List* q = b.list();
  if (p == nullptr || q == nullptr || p->kind != q->kind || p->kind > List::Kind::kTuple) return std::nullopt;
  for (std::size_t i = 0; i < std::min(p->size(), q->size()); ++i) {
    if (!equal((*p)[i], (*q)[i], budget)) return order((*p)[i], (*q)[i], budget);
  }
  return p->size() < q->size() ? -1 : p->size() > q->size() ? 1 : 0;
}

}  // namespace tte::text::jinja
