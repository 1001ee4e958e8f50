#include "text/jinja/value.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/json.h"

namespace tte::text::jinja {
namespace {

template <typename Items, typename Of>
int nested(const Items& items, Of value_of) {
  int depth = 1;
  for (const auto& item : items) depth = std::max(depth, value_of(item).depth() + 1);
  if (depth > kMaxNesting) refuse(fmt::format("a value that nests deeper than {} levels", kMaxNesting));
  return depth;
}

// Writes values as JSON. Pays for what is appended to `out`.
class JsonWriter {
 public:
  JsonWriter(Budget& budget, const JsonStyle& style) : budget_(budget), style_(style) {}
  std::string out;

  void write(const Value& value, int depth = 0) {
    pay(value);
    if (value.is_none()) {
      out += "null";
    } else if (const auto* b = value.as<bool>()) {
      out += *b ? "true" : "false";
    } else if (const auto i = value.integer()) {
      out += std::to_string(*i);
    } else if (const auto* t = value.text()) {
      quoted(*t);
    } else if (const auto* l = value.list(); l != nullptr && l->plain()) {
      sequence(*l, "[]", depth, [&](const Value& item) { write(item, depth + 1); });
    } else if (const auto* d = value.dict()) {
      dict(*d, depth);
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
  }

  void quoted(const std::string& text) {
    out += base::Json(text).dump(-1, ' ', style_.ensure_ascii, base::Json::error_handler_t::replace);
  }

  void dict(const Dict& dict, int depth) {
    auto items = dict.items;
    if (style_.sort_keys) {
      std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    sequence(items, "{}", depth, [&](const auto& item) {
      quoted(item.first);
      out += style_.key_separator;
      write(item.second, depth + 1);
    });
  }

  // Items between brackets, in one line or one per line.
  template <typename Items, typename Write>
  void sequence(const Items& items, std::string_view brackets, int depth, Write write) {
    const auto newline = [&](int levels) {
      if (!style_.multiline) return;
      out += '\n';
      for (int i = 0; i < levels; ++i) out += style_.indent;
    };
    out += brackets.front();
    bool first = true;
    for (const auto& item : items) {
      if (!std::exchange(first, false)) out += style_.item_separator;
      newline(depth + 1);
      write(item);
    }
    if (!first) newline(depth);
    out += brackets.back();
  }

  Budget& budget_;
  const JsonStyle& style_;
  std::size_t paid_ = 0;
};

}  // namespace

std::string unsupported(std::string_view what) {
  return fmt::format("{} is not supported by tte, which runs what published chat templates use", what);
}

void refuse(std::string_view what) {
  throw Failure(unsupported(what));
}

void append(Budget& budget, std::string& out, std::string_view a, std::string_view b) {
  budget.take(1, a.size() + b.size());
  out.append(a).append(b);
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
  for (const auto& [known, value] : items) {
    if (known == key) return &value;
  }
  return nullptr;
}

void Dict::set(std::string_view key, Value value) {
  for (auto& [known, old] : items) {
    if (known != key) continue;
    old = std::move(value);
    return;
  }
  items.emplace_back(key, std::move(value));
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

std::string str(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_none()) return "None";
  if (const auto* t = value.text()) return *t;
  if (const auto* m = value.markup()) return m->text;
  if (const auto* b = value.as<bool>()) return *b ? "True" : "False";
  if (const auto i = value.integer()) return std::to_string(*i);
  refuse(fmt::format("the text of a {}", value.type_name()));
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter writer(budget, style);
  writer.write(value);
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

}  // namespace tte::text::jinja
