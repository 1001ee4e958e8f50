#include "text/jinja/value.h"

#include <fmt/core.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <array>

#include "text/utf8.h"

namespace tte::text::jinja {
namespace {

template <typename Items, typename Of>
int nested(const Items& items, Of value_of) {
  int depth = 1;
  for (const auto& item : items) depth = std::max(depth, value_of(item).depth() + 1);
  if (depth > kMaxNesting) refuse(fmt::format("a value that nests deeper than {} levels", kMaxNesting));
  return depth;
}

// The letter that both Python and JSON write after a backslash; 0 if there is none.
char short_escape(char32_t c) {
  return c == '\\' ? '\\' : c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : '\0';
}

bool printable(char32_t c) {
  constexpr std::uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return c == ' ' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
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

// Pays for what is appended to `out`, and keeps it below kMaxText.
class Writer {
 public:
  explicit Writer(Budget& budget) : budget_(budget) {}
  std::string out;

  // repr(value)
  void python(const Value& value) {
    pay(value);
    if (value.is_undefined()) {
      out += "Undefined";
    } else if (value.is_none()) {
      out += "None";
    } else if (const auto* b = value.as<bool>()) {
      out += *b ? "True" : "False";
    } else if (const auto i = value.integer()) {
      out += std::to_string(*i);
    } else if (const auto* t = value.text()) {
      string_repr(*t, out);
    } else if (const auto* l = value.list(); l != nullptr && l->plain()) {
      const bool tuple = l->kind == List::Kind::kTuple;
      sequence(*l, tuple ? "(" : "[", tuple ? (l->size() == 1 ? ",)" : ")") : "]", {}, 0,
               [&](const Value& item) { python(item); });
    } else if (const auto* d = value.dict()) {
      sequence(d->items, "{", "}", {}, 0, [&](const auto& item) {
        string_repr(item.first, out);
        out += ": ";
        python(item.second);
      });
    } else {
      refuse(fmt::format("the text of a {}", value.type_name()));
    }
  }

  void json(const Value& value, const JsonStyle& style, int depth = 0) {
    pay(value);
    if (value.is_none()) {
      out += "null";
    } else if (const auto* b = value.as<bool>()) {
      out += *b ? "true" : "false";
    } else if (const auto i = value.integer()) {
      out += std::to_string(*i);
    } else if (const auto* t = value.text()) {
      json_string(*t, style.ensure_ascii, out);
    } else if (const auto* l = value.list(); l != nullptr && l->plain()) {
      sequence(*l, "[", "]", style, depth, [&](const Value& item) { json(item, style, depth + 1); });
    } else if (const auto* d = value.dict()) {
      std::vector<const std::pair<std::string, Value>*> items;
      for (const auto& item : d->items) items.push_back(&item);
      if (style.sort_keys)
        std::sort(items.begin(), items.end(), [](auto* a, auto* b) { return a->first < b->first; });
      sequence(items, "{", "}", style, depth, [&](const auto* item) {
        json_string(item->first, style.ensure_ascii, out);
        out += style.key_separator;
        json(item->second, style, depth + 1);
      });
    } else {
      refuse(fmt::format("JSON of a {}", value.type_name()));
    }
  }

 private:
  void pay(const Value& value) {
    budget_.step();
    if (value.text() != nullptr) budget_.work(value.text()->size());
    if (out.size() > paid_) budget_.take(1, out.size() - paid_);
    paid_ = std::max(paid_, out.size());
    if (out.size() > kMaxText) throw Failure(fmt::format("a text becomes longer than {} bytes", kMaxText));
  }

  // Items between brackets, in one line or one per line.
  template <typename Items, typename Write>
  void sequence(const Items& items, std::string_view open, std::string_view close, const JsonStyle& style,
                int depth, Write write) {
    const auto newline = [&](int levels) {
      if (!style.multiline) return;
      out += '\n';
      for (int i = 0; i < levels; ++i) out += style.indent;
    };
    out += open;
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
  std::size_t paid_ = 0;
};

}  // namespace

std::string unsupported(std::string_view what) {
  return fmt::format("{} is not supported by tte, which runs what published chat templates use", what);
}

void refuse(std::string_view what) {
  throw Failure(unsupported(what));
}

Value::Value(List list) {
  list.depth = nested(list, [](const Value& item) -> const Value& { return item; });
  data_ = std::make_shared<const List>(std::move(list));
}
Value::Value(Dict dict) {
  dict.depth = nested(dict.items, [](const auto& item) -> const Value& { return item.second; });
  data_ = std::make_shared<const Dict>(std::move(dict));
}

const Value* Dict::find(std::string_view key) const {
  const auto at =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  return at == items.end() ? nullptr : &at->second;
}

void Dict::set(std::string_view key, Value value) {
  const auto at =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  if (at != items.end()) {
    at->second = std::move(value);
  } else {
    items.emplace_back(key, std::move(value));
  }
}

std::optional<std::int64_t> Value::integer() const {
  if (const auto* b = as<bool>()) return *b ? 1 : 0;
  const auto* i = as<std::int64_t>();
  return i == nullptr ? std::nullopt : std::optional(*i);
}

bool Value::truthy() const {
  if (const auto i = integer()) return *i != 0;
  if (const auto* t = text()) return !t->empty();
  if (const auto* m = markup()) return !m->text.empty();
  if (const auto* l = list()) return !l->empty() || l->kind == List::Kind::kGenerator;
  if (const auto* d = dict()) return !d->items.empty();
  return !is_undefined() && !is_none();
}

const char* Value::type_name() const {
  constexpr std::array<const char*, 10> kNames = {
      "undefined", "NoneType", "bool", "int", "str", "list", "dict", "Namespace", "function", "safe text"};
  constexpr std::array<const char*, 4> kSequences = {"list", "tuple", "view", "generator"};
  if (const auto* l = list()) return kSequences[static_cast<std::size_t>(l->kind)];
  return kNames[data_.index()];
}

int Value::depth() const {
  if (const auto* l = list()) return l->depth;
  const auto* d = dict();
  return d != nullptr ? d->depth : 0;
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
  if (const auto* m = value.markup()) return m->text;
  Writer writer(budget);
  writer.python(value);
  return std::move(writer.out);
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  Writer writer(budget);
  writer.json(value, style);
  return std::move(writer.out);
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  for (const Value* value : {&a, &b}) {
    const List* list = value->list();
    if ((list != nullptr && !list->plain()) || value->function() != nullptr || value->markup() != nullptr) {
      refuse(fmt::format("the comparison of a {}", value->type_name()));
    }
  }
  if (const auto i = a.integer(), j = b.integer(); i && j) return *i == *j;
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.work(std::min(a.text()->size(), b.text()->size()));
    return *a.text() == *b.text();
  }
  if (a.list() != nullptr && b.list() != nullptr) {
    return a.list()->kind == b.list()->kind &&
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
  if (a.names() != nullptr) return a.names() == b.names();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

std::optional<int> order(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (const auto i = a.integer(), j = b.integer(); i && j) return *i < *j ? -1 : *i > *j ? 1 : 0;
  if (a.text() == nullptr || b.text() == nullptr) return std::nullopt;
  budget.work(std::min(a.text()->size(), b.text()->size()));
  return a.text()->compare(*b.text());  // The order of UTF-8 is that of code points.
}

}  // namespace tte::text::jinja
