#include "text/jinja/value.h"

#include <fmt/core.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

constexpr int kMaxDepth = 64;

void check_depth(int depth) {
  if (depth > kMaxDepth)
    throw ModelError(fmt::format("A template's value nests deeper than {} levels.", kMaxDepth));
}

void check_size(const std::string& out) {
  if (out.size() > kMaxText)
    throw ModelError(fmt::format("A template's value has a text of over {} bytes.", kMaxText));
}

bool printable(char32_t c) {
  if (c == ' ') return true;
  constexpr std::uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
}

void string_repr(std::string_view text, std::string& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out += quote;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
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
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\b') {
      out += "\\b";
    } else if (c == '\f') {
      out += "\\f";
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

// Items between brackets, in one line or one per line.
template <typename Items, typename Write>
void json_block(const Items& items, char open, char close, const JsonStyle& style, int depth,
                std::string& out, Write write) {
  out += open;
  const auto newline = [&](int levels) {
    if (!style.multiline) return;
    out += '\n';
    for (int i = 0; i < levels; ++i) out += style.indent;
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

}  // namespace

Value::Value(List list) : data_(std::make_shared<const List>(std::move(list))) {}

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

const Value* Arguments::get(std::size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
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
  if (const auto* l = list()) return !l->empty();
  if (const auto* d = dict()) return d->is_namespace || !d->items.empty();
  return callable() != nullptr || loop() != nullptr;
}

const char* Value::type_name() const {
  constexpr std::array<const char*, 10> kNames = {"undefined", "NoneType", "bool", "int",      "float",
                                                  "str",       "list",     "dict", "function", "loop"};
  if (list() != nullptr && list()->is_tuple) return "tuple";
  return kNames[data_.index()];
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
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

std::string Value::str() const {
  if (is_undefined()) return {};
  if (const auto* t = text()) return *t;
  std::string out;
  repr(out);
  return out;
}

void Value::repr(std::string& out, int depth) const {
  check_depth(depth);
  check_size(out);
  if (is_undefined()) {
    out += "Undefined";
  } else if (is_none()) {
    out += "None";
  } else if (const auto* b = as<bool>()) {
    out += *b ? "True" : "False";
  } else if (const auto* i = as<std::int64_t>()) {
    out += std::to_string(*i);
  } else if (const auto* d = as<double>()) {
    out += float_repr(*d);
  } else if (const auto* t = text()) {
    string_repr(*t, out);
  } else if (const auto* l = list()) {
    out += l->is_tuple ? '(' : '[';
    for (std::size_t k = 0; k < l->size(); ++k) {
      if (k > 0) out += ", ";
      (*l)[k].repr(out, depth + 1);
    }
    if (l->is_tuple && l->size() == 1) out += ',';
    out += l->is_tuple ? ')' : ']';
  } else if (const auto* m = dict()) {
    out += '{';
    for (std::size_t k = 0; k < m->items.size(); ++k) {
      if (k > 0) out += ", ";
      string_repr(m->items[k].first, out);
      out += ": ";
      m->items[k].second.repr(out, depth + 1);
    }
    out += '}';
  } else {
    throw ModelError(fmt::format("A template prints a {}, which has no text.", type_name()));
  }
}

bool equal(const Value& a, const Value& b, std::int64_t& steps, std::int64_t limit, int depth) {
  check_depth(depth);
  if (++steps > limit) throw ModelError(fmt::format("A template takes more than {} steps.", limit));
  std::int64_t i = 0;
  std::int64_t j = 0;
  if (a.integer(i) && b.integer(j)) return i == j;
  double x = 0;
  double y = 0;
  if (a.number(x) && b.number(y)) return x == y;
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.list() != nullptr && b.list() != nullptr) {
    return a.list()->is_tuple == b.list()->is_tuple &&
           std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(),
                      [&](const Value& p, const Value& q) { return equal(p, q, steps, limit, depth + 1); });
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict() == b.dict()) return true;
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    return std::all_of(a.dict()->items.begin(), a.dict()->items.end(), [&](const auto& item) {
      const Value* other = b.dict()->find(item.first);
      return other != nullptr && equal(item.second, *other, steps, limit, depth + 1);
    });
  }
  if (a.callable() != nullptr || a.loop() != nullptr) {
    return a.callable() == b.callable() && a.loop() == b.loop();
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

void to_json(const Value& value, const JsonStyle& style, std::string& out, int depth) {
  check_depth(depth);
  check_size(out);
  if (value.is_none()) {
    out += "null";
  } else if (const auto* b = value.as<bool>()) {
    out += *b ? "true" : "false";
  } else if (const auto* d = value.as<double>()) {
    out += std::isnan(*d) ? "NaN" : std::isinf(*d) ? (*d < 0 ? "-Infinity" : "Infinity") : float_repr(*d);
  } else if (value.as<std::int64_t>() != nullptr) {
    out += value.str();
  } else if (const auto* t = value.text()) {
    json_string(*t, style.ensure_ascii, out);
  } else if (const auto* l = value.list()) {
    json_block(*l, '[', ']', style, depth, out,
               [&](const Value& item) { to_json(item, style, out, depth + 1); });
  } else if (const auto* m = value.dict(); m != nullptr && !m->is_namespace) {
    auto items = m->items;
    if (style.sort_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    json_block(items, '{', '}', style, depth, out, [&](const auto& item) {
      json_string(item.first, style.ensure_ascii, out);
      out += style.key_separator;
      to_json(item.second, style, out, depth + 1);
    });
  } else {
    throw ModelError(
        fmt::format("A template turns a {} into JSON, which JSON cannot say.", value.type_name()));
  }
}

}  // namespace tte::text::jinja
