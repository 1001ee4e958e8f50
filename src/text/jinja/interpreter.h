// Runs a parsed template. Bounded in time, memory and stack, because templates come from the internet.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace tte::text::jinja {

struct Scope {
  std::vector<std::pair<std::string, Value>> variables;
  std::shared_ptr<Scope> parent;

  [[nodiscard]] const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

// One for loop while it runs. Not a value of its own: only its attributes are.
struct Loop {
  std::function<std::optional<Value>()> next;
  std::optional<std::int64_t> length;  // Counted when it is asked for.
  std::int64_t index = -1;
  Value current, before;
  // The next item, where it has been looked at; none at the end.
  std::optional<std::optional<Value>> after;
  std::optional<Value> last_changed;  // loop.changed(...)
};

class Interpreter {
 public:
  static constexpr int kMaxDepth = 1000;              // Calls of the interpreter inside itself.
  static constexpr std::int64_t kMaxRange = 100'000;  // As in Jinja's sandbox.
  using Next = std::function<std::optional<Value>()>;

  // Counts how deep the interpreter is in itself, and knows the line.
  class Level {
   public:
    Level(Interpreter& run, int line);
    ~Level();
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Interpreter& run_;
    int line_;
    int exceptions_;
  };

  Interpreter(const std::string& name, const std::vector<std::pair<std::string, Value>>& globals);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The text of the template. Throws ModelError naming template and line for what fails or is not supported,
  // and InputError with the template's own message for raise_exception().
  std::string run(const Body& body);

  Budget budget;

  [[nodiscard]] int line() const { return line_; }
  std::string text_of(const Value& value) { return str(value, budget); }
  // A string or a list that is paid for.
  Value made(std::string text);
  Value made(List list);
  // A dict that the template can change; kept until the end, because it may hold itself.
  std::shared_ptr<Namespace> make_namespace();
  // What a for loop goes over, one by one. Throws Failure for what has no items.
  Next iterate(const Value& value);
  // The same, all at once.
  List items_of(const Value& value);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  using ScopePtr = std::shared_ptr<Scope>;

  Flow execute(const Body& body, const ScopePtr& scope, std::string& out);
  Flow execute(const Statement& node, const ScopePtr& scope, std::string& out);
  Flow execute_if(const Statement& node, const ScopePtr& scope, std::string& out);
  Flow execute_for(const Statement& node, const ScopePtr& scope, std::string& out);
  Flow execute_with(const Statement& node, const ScopePtr& scope, std::string& out);
  void define_macro(const Statement& node, const ScopePtr& scope);
  void execute_filter(const Statement& node, const ScopePtr& scope, std::string& out);
  Value call_macro(const Statement& node, const ScopePtr& closure, const Arguments& arguments);
  void assign(const std::string& target, Value value, const ScopePtr& scope);
  void assign_all(const std::vector<std::string>& targets, const Value& value, const ScopePtr& scope);
  void write(std::string& out, std::string_view text);

  Value evaluate(const Expression& node, const ScopePtr& scope);
  Value evaluate_here(const Expression& node, const ScopePtr& scope);
  // The value of a name; of a loop too, which the caller must not keep.
  Value name(const Expression& node, const ScopePtr& scope);
  Value attribute(const Expression& node, const ScopePtr& scope);
  Value list(const Expression& node, const ScopePtr& scope);
  Value dict(const Expression& node, const ScopePtr& scope);
  Value unary(const Expression& node, const ScopePtr& scope);
  Value binary(const Expression& node, const ScopePtr& scope);
  Value compare(const Expression& node, const ScopePtr& scope);
  Value condition(const Expression& node, const ScopePtr& scope);
  Value slice(const Expression& node, const ScopePtr& scope);
  Value call(const Expression& node, const ScopePtr& scope);
  // `input` stands in for a filter chain's missing beginning.
  Value filter(const Expression& node, const ScopePtr& scope, const Value* input);
  Value test(const Expression& node, const ScopePtr& scope);
  Arguments arguments(const Expression& node, const ScopePtr& scope);

  const std::string& name_;
  std::shared_ptr<Scope> globals_ = std::make_shared<Scope>();
  // What may hold itself: let go one by one at the end, so that nothing leaks and no chain of them is freed
  // in one deep recursion.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  std::vector<std::shared_ptr<Scope>> closures_;
  int depth_ = 0;
  int line_ = 1;
};

// "... is not supported by tte": for what Jinja can do, or may be able to do.
[[noreturn]] void refuse(const std::string& what);
[[noreturn]] void fail_undefined(const Undefined& undefined);

// attributes.cpp
Value get_attribute(Interpreter& run, const Value& object, const std::string& name);
Value get_item(Interpreter& run, const Value& object, const Value& key);
Value loop_attribute(Interpreter& run, const std::shared_ptr<Loop>& loop, const std::string& name);
// range, dict, namespace, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> global_functions(Interpreter& run);
// operators.cpp
Value arithmetic(Interpreter& run, const std::string& op, const Value& a, const Value& b);
bool compares(Interpreter& run, const std::string& op, const Value& a, const Value& b);
// filters.cpp, tests.cpp
Value call_filter(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments);
bool call_test(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments);

}  // namespace tte::text::jinja
