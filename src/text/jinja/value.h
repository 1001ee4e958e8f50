// The values of a chat template: Python's, as far as templates need them. A value owns all that it reads, and
// only a namespace() changes, so nothing else can hold itself.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/ordered_map.h"

namespace tte::text::jinja {

class Budget;
class Value;
struct List;
struct Dict;
struct Namespace;
struct Function;  // A macro or a global function (interpreter.h).

// What a template does wrong or asks for in vain: a clause without its place, which the interpreter adds.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}
// The clause for what Jinja can do and tte leaves out, or may leave out.
std::string unsupported(std::string_view what);
template <typename... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(unsupported(fmt::format(format, std::forward<Args>(args)...)));
}

struct Undefined {
  std::string name;
};
struct None {};
// What |safe makes: a text that can only be written, because Jinja escapes what is joined to it.
struct Markup {
  std::string text;
};

// Lists and dicts nest at most this deep, so that walks over them need little stack.
inline constexpr int kMaxNesting = 100;

class Value {
 public:
  using Data =
      std::variant<Undefined, None, bool, std::int64_t, std::shared_ptr<const std::string>,
                   std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                   std::shared_ptr<const Function>, std::shared_ptr<const Markup>>;

  Value() = default;
  // NOLINTBEGIN(google-explicit-constructor): a value is made of any of these, as in a template.
  Value(None) : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(bool value) : data_(value) {}
  Value(std::int64_t value) : data_(value) {}
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  // Throw Failure for what nests deeper than kMaxNesting.
  Value(List list);
  Value(Dict dict);
  Value(std::shared_ptr<Namespace> names) : data_(std::move(names)) {}
  Value(std::shared_ptr<const Function> function) : data_(std::move(function)) {}
  Value(Markup markup) : data_(std::make_shared<const Markup>(std::move(markup))) {}
  // NOLINTEND(google-explicit-constructor)

  template <typename T>
  [[nodiscard]] const T* as() const {
    return std::get_if<T>(&data_);
  }
  // What the value shares with its copies; null if it is something else.
  template <typename T>
  [[nodiscard]] T* shared() const {
    const auto* p = std::get_if<std::shared_ptr<T>>(&data_);
    return p == nullptr ? nullptr : p->get();
  }
  [[nodiscard]] bool is_undefined() const { return as<Undefined>() != nullptr; }
  [[nodiscard]] bool is_none() const { return as<None>() != nullptr; }
  [[nodiscard]] const std::string* text() const { return shared<const std::string>(); }
  [[nodiscard]] const List* list() const { return shared<const List>(); }
  [[nodiscard]] const Dict* dict() const { return shared<const Dict>(); }
  [[nodiscard]] const Function* function() const { return shared<const Function>(); }
  [[nodiscard]] Namespace* names() const { return shared<Namespace>(); }
  [[nodiscard]] const Markup* markup() const { return shared<const Markup>(); }
  // The number (a bool counts as 0 or 1); none if it is not one.
  [[nodiscard]] std::optional<std::int64_t> integer() const;

  [[nodiscard]] bool is_generator() const;
  [[nodiscard]] bool truthy() const;
  // What Python calls the type: "str", "list", ...
  [[nodiscard]] const char* type_name() const;
  [[nodiscard]] int depth() const;

 private:
  Data data_;
};

// A sequence. Views (a range, the keys of a dict) and generators have no text and cannot be compared. A generator,
// which Jinja lets be read only once, can be gone over where it is made, but not kept.
struct List : std::vector<Value> {
  enum class Kind { kList, kTuple, kView, kGenerator };
  using std::vector<Value>::vector;
  explicit List(Kind of) : kind(of) {}
  Kind kind = Kind::kList;
  int depth = 1;

  [[nodiscard]] bool plain() const { return kind <= Kind::kTuple; }
};

// In the order of insertion; keys are strings.
struct Dict {
  base::OrderedMap<std::string, Value> items;
  int depth = 1;

  [[nodiscard]] const Value* find(std::string_view key) const {
    const auto at = items.find(key);
    return at == items.end() ? nullptr : &at->second;
  }
  void set(std::string_view key, Value value) { items[std::string(key)] = std::move(value); }
};

// namespace(): what a template can change. Kept by the interpreter until the end.
struct Namespace : Dict {};

template <typename T>
struct ArgumentsOf {
  std::vector<T> positional;
  std::vector<std::pair<std::string, T>> named;
};
using Arguments = ArgumentsOf<Value>;

// What one run of a template may still spend, in steps and in bytes of strings and lists made on the way.
class Budget {
 public:
  static constexpr std::int64_t kMaxSteps = 2'000'000;
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 29;

  // Throw Failure when all is spent.
  void step(std::int64_t steps = 1);
  // For going over `bytes` bytes, `per_step` of which cost a step.
  void work(std::size_t bytes, std::size_t per_step = 64) {
    step(static_cast<std::int64_t>(bytes / per_step));
  }
  // Before `what` is looked for in `text`, where in the worst case it almost fits everywhere.
  void search(std::string_view text, std::string_view what) {
    work(text.size() * std::min<std::size_t>(what.size() + 1, 1 << 20), 4096);
  }
  // Before `count` times `size` bytes are made.
  void spend(std::size_t count, std::size_t size);

 private:
  std::int64_t steps_ = 0;
  std::size_t bytes_ = 0;
};

// out += a + b.
void append(Budget& budget, std::string& out, std::string_view a, std::string_view b = {});

// The value, which Jinja may read again later: refuses a generator, which it reads once.
const Value& kept(const Value& value);
// Fails for an undefined value.
void require_defined(const Value& value);
// str(value): what {{ value }} writes; undefined writes nothing. Refuses lists, dicts and all else but plain values.
std::string str(const Value& value);
// Python's ==.
bool equal(const Value& a, const Value& b, Budget& budget);

}  // namespace tte::text::jinja
