// The values of a chat template: Python's, as far as templates need them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tte::text::jinja {

class Value;
class Interpreter;
struct List;
struct Dict;
struct Callable;
struct Loop;

struct Undefined {
  std::string name;
};
struct None {};

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const std::string>,
                            std::shared_ptr<const List>, std::shared_ptr<Dict>,
                            std::shared_ptr<const Callable>, std::shared_ptr<Loop>>;

  Value() = default;
  // NOLINTBEGIN(google-explicit-constructor): a value is made of any of these, as in a template.
  Value(None) : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(bool value) : data_(value) {}
  Value(std::int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(List list);
  Value(std::shared_ptr<const List> list) : data_(std::move(list)) {}
  Value(std::shared_ptr<Dict> dict) : data_(std::move(dict)) {}
  Value(std::shared_ptr<const Callable> callable) : data_(std::move(callable)) {}
  Value(std::shared_ptr<Loop> loop) : data_(std::move(loop)) {}
  // NOLINTEND(google-explicit-constructor)

  template <typename T>
  [[nodiscard]] const T* as() const {
    return std::get_if<T>(&data_);
  }
  [[nodiscard]] bool is_undefined() const { return as<Undefined>() != nullptr; }
  [[nodiscard]] bool is_none() const { return as<None>() != nullptr; }
  // Null if the value is something else.
  [[nodiscard]] const std::string* text() const {
    const auto* p = as<std::shared_ptr<const std::string>>();
    return p == nullptr ? nullptr : p->get();
  }
  [[nodiscard]] const List* list() const {
    const auto* p = as<std::shared_ptr<const List>>();
    return p == nullptr ? nullptr : p->get();
  }
  [[nodiscard]] Dict* dict() const {
    const auto* p = as<std::shared_ptr<Dict>>();
    return p == nullptr ? nullptr : p->get();
  }
  [[nodiscard]] const Callable* callable() const {
    const auto* p = as<std::shared_ptr<const Callable>>();
    return p == nullptr ? nullptr : p->get();
  }
  [[nodiscard]] Loop* loop() const {
    const auto* p = as<std::shared_ptr<Loop>>();
    return p == nullptr ? nullptr : p->get();
  }
  // The number as int (bool counts as 0 or 1); false if it is not one.
  [[nodiscard]] bool integer(std::int64_t& value) const;
  // The number as float; false if it is not one.
  [[nodiscard]] bool number(double& value) const;

  [[nodiscard]] bool truthy() const;
  // What Python calls the type: "str", "list", ...
  [[nodiscard]] const char* type_name() const;
  // str(value): what {{ value }} prints; undefined prints nothing.
  [[nodiscard]] std::string str() const;
  // repr(value), as lists and dicts print what is in them. Throws ModelError past a depth of 64 or kMaxText
  // bytes.
  void repr(std::string& out, int depth = 0) const;

 private:
  Data data_;
};

// A list, or a tuple, which prints and compares as another thing.
struct List : std::vector<Value> {
  using std::vector<Value>::vector;
  bool is_tuple = false;
};

// A dict in the order of insertion; keys are strings. Also a namespace(), the only thing a template can
// change.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;
  bool is_namespace = false;

  [[nodiscard]] const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
};

struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;

  // Argument `index`, or the one called `name`; null if neither was passed.
  [[nodiscard]] const Value* get(std::size_t index, std::string_view name) const;
};

// A macro, a global function or a bound method. `line` is where it is called.
struct Callable {
  std::string name;
  std::function<Value(Interpreter&, const Arguments&, int line)> call;
};

// The variable `loop` of one for loop.
struct Loop {
  std::shared_ptr<const List> items;
  std::size_t index = 0;
  std::shared_ptr<Value> last_changed;  // loop.changed(...)
};

// Python's ==. Counts its steps in `steps`: throws ModelError past `limit` of them, or a depth of 64.
bool equal(const Value& a, const Value& b, std::int64_t& steps, std::int64_t limit, int depth = 0);

// json.dumps(value, ensure_ascii=..., indent=..., separators=..., sort_keys=...).
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string indent;  // Of one level; only with `multiline`.
  bool multiline = false;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
// Throws ModelError for what JSON cannot say.
void to_json(const Value& value, const JsonStyle& style, std::string& out, int depth = 0);

// The longest text that is made of a value.
inline constexpr std::size_t kMaxText = std::size_t{1} << 27;

// repr() of a float, as Python prints it.
std::string float_repr(double value);

}  // namespace tte::text::jinja
