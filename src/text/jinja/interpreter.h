// Runs a compiled template. Bounded in time, memory and stack, because templates come from the internet.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/program.h"
#include "text/jinja/value.h"

namespace tte::text::jinja {

struct Builtin;

// A for loop while it runs. Its items are looked at only when they are needed, because what a loop's condition reads
// may change in its body.
struct Loop {
  List rest;
  std::size_t position = 0;                 // In `rest`.
  std::function<bool(const Value&)> keeps;  // The condition of the loop; empty if it has none.
  std::int64_t index = -1;
  Value current, before;
  std::optional<Value> after;  // The next item, where it has been looked at.

  const std::optional<Value>& peek();
  bool advance();  // To the next item, if there is one.
};

struct Scope {
  std::shared_ptr<Scope> parent;
  std::shared_ptr<Loop> loop;  // Whose round this is.
  Dict variables;
};

// A macro or a global function; the other is null.
struct Function {
  const Builtin* builtin = nullptr;
  const Macro* macro = nullptr;
};

class Interpreter {
 public:
  static constexpr int kMaxDepth = 1000;              // Calls of the interpreter inside itself.
  static constexpr std::int64_t kMaxRange = 100'000;  // As in Jinja's sandbox.

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

  // Statements, which write to `out`.
  Flow execute(const Body& body, std::string& out);
  // In a scope of its own.
  Flow execute_inside(const Body& body, std::string& out);
  Flow execute(const ForLoop& loop, std::string& out);
  void define(const Macro& macro);
  // `target` is a name or "namespace.attribute".
  void assign(const std::string& target, Value value);
  void write(std::string& out, std::string_view text);

  // Expressions.
  Value evaluate(const Expression& node);
  // A value that is kept, which a generator cannot be.
  Value evaluate_to_keep(const Expression& node);
  Value name(const std::string& name);
  Loop& loop();  // The innermost.
  Value call(const std::string& name, const CallArguments& arguments);
  Arguments arguments(const CallArguments& arguments);

  Budget budget;

  [[nodiscard]] int line() const { return line_; }
  // A string or a list that is paid for.
  Value made(std::string text);
  Value made(List list);
  // A dict that the template can change; kept until the end, because it may hold itself.
  std::shared_ptr<Namespace> make_namespace();
  // What a for loop goes over. Refuses what has no items.
  List items_of(const Value& value);

 private:
  // Enters a scope inside `parent` while it lives.
  class Inside;

  // The innermost variable of that name; null: there is none. What is looked through is paid for.
  const Value* find(std::string_view name);
  // In this scope.
  void set(const std::string& name, Value value);
  Value call_macro(const Function& function, const Arguments& arguments);
  void assign_all(const std::vector<std::string>& targets, const Value& value);

  const std::string& name_;
  const std::shared_ptr<Scope> globals_ = std::make_shared<Scope>();
  std::shared_ptr<Scope> scope_ = globals_;
  // Namespaces may hold themselves: they are let go one by one at the end, so that nothing leaks and no chain of them
  // is freed in one deep recursion.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  int depth_ = 0;
  int line_ = 1;
};

[[noreturn]] void fail_undefined(const Undefined& undefined);

// operators.cpp
Value get_attribute(const Value& object, const std::string& name);
Value get_item(Interpreter& run, const Value& object, const Value& key);
// object[begin:end]; object[::-1] of a list if `reversed`.
Value get_slice(Interpreter& run, const Value& object, const Value& begin, const Value& end, bool reversed);
// `a op b` of all operators but "and" and "or", which may leave out `b`.
Value operate(Interpreter& run, const std::string& op, const Value& a, const Value& b);
bool compares(Interpreter& run, const std::string& op, const Value& a, const Value& b);

}  // namespace tte::text::jinja
