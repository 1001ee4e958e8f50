#include "text/jinja/value.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/printable.h"

namespace tte::text::jinja {
namespace {

template <typename Items, typename Of>
int nested(const Items& items, Of value_of) {
  int depth = 1;
  for (const auto& item : items) depth = std::max(depth, kept(value_of(item)).depth() + 1);
  if (depth > kMaxNesting) refuse("a value that nests deeper than {} levels", kMaxNesting);
  return depth;
}

}  // namespace

std::string unsupported(std::string_view what) {
  return fmt::format("{} is not supported by tte, which runs what published chat templates use", what);
}

void append(Budget& budget, std::string& out, std::string_view a, std::string_view b) {
  budget.spend(1, a.size() + b.size());
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

std::optional<std::int64_t> Value::integer() const {
  if (const auto* b = as<bool>()) return *b ? 1 : 0;
  const auto* i = as<std::int64_t>();
  return i == nullptr ? std::nullopt : std::optional(*i);
}

bool Value::is_generator() const {
  return list() != nullptr && list()->kind == List::Kind::kGenerator;
}

bool Value::truthy() const {
  if (const auto i = integer()) return *i != 0;
  if (const auto* t = text()) return !t->empty();
  if (const auto* m = markup()) return !m->text.empty();
  if (const auto* l = list()) return !l->empty() || is_generator();
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
  if (steps_ > kMaxSteps) fail("it takes more than {} steps", kMaxSteps);
}

void Budget::spend(std::size_t count, std::size_t size) {
  const std::size_t left = kMaxBytes - bytes_;
  if (size != 0 && count > left / size) fail("it needs more than {} bytes of memory", kMaxBytes);
  bytes_ += count * size;
  work(count * size, 256);
}

const Value& kept(const Value& value) {
  if (value.is_generator()) refuse("keeping a generator (add |list to it)");
  return value;
}

void require_defined(const Value& value) {
  const auto* undefined = value.as<Undefined>();
  if (undefined != nullptr) fail("{} is not defined", base::printable(undefined->name, 60));
}

std::string str(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_none()) return "None";
  if (const auto* t = value.text()) return *t;
  if (const auto* m = value.markup()) return m->text;
  if (const auto* b = value.as<bool>()) return *b ? "True" : "False";
  if (const auto i = value.integer()) return std::to_string(*i);
  refuse("the text of a {}", value.type_name());
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  for (const Value* value : {&a, &b}) {
    const bool is_view = value->list() != nullptr && !value->list()->plain();
    if (is_view || value->function() != nullptr || value->markup() != nullptr) {
      refuse("the comparison of a {}", value->type_name());
    }
  }
  if (const auto i = a.integer(), j = b.integer(); i && j) return *i == *j;
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.work(std::min(a.text()->size(), b.text()->size()));
    return *a.text() == *b.text();
  }
  if (const List* p = a.list(), *q = b.list(); p != nullptr && q != nullptr) {
    const auto same = [&](const Value& x, const Value& y) { return equal(x, y, budget); };
    return p->kind == q->kind && std::equal(p->begin(), p->end(), q->begin(), q->end(), same);
  }
  if (const Dict* p = a.dict(), *q = b.dict(); p != nullptr && q != nullptr) {
    return p->items.size() == q->items.size() &&
           std::all_of(p->items.begin(), p->items.end(), [&](const auto& item) {
             const Value* other = q->find(item.first);
             return other != nullptr && equal(item.second, *other, budget);
           });
  }
  if (a.names() != nullptr) return a.names() == b.names();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

}  // namespace tte::text::jinja
