// A compiled template, and what runs it: bounded in time, memory and stack, because templates come from the internet.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace tte::text::jinja {

class Interpreter;

struct Node {
  int line = 1;
  std::function<Value(Interpreter&)> evaluate;
};
using Expression = const Node*;        // One of the program's; null where it is left out.
using Body = std::vector<Expression>;  // Statements, which evaluate to nothing.
using CallArguments = ArgumentsOf<Expression>;

// {% for targets in items if condition %}
struct ForLoop {
  std::vector<std::string> targets;
  Expression items = nullptr;
  Expression condition = nullptr;
  Body body;
};

struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<Expression> defaults;  // One a parameter.
  Body body;
};

struct Program {
  std::vector<std::unique_ptr<const Node>> nodes;
  Body body;
  // The constant strings and the text between tags, each ended by NUL so that nothing matches across two of them.
  std::string literals;
};

// Throws Failure for what is wrong in `line`. What is not supported is a failure here, unless it stands in a branch
// or a macro, which may never run.
Program parse(std::string_view source, int& line);

// A for loop while it runs. Its items are looked at only when they are needed, because what a loop's condition reads
// may change in its body.
struct Loop {
  List items;
  std::size_t position = 0;                 // The first item that has not been looked at.
  std::function<bool(const Value&)> keeps;  // The condition of the loop; empty if it has none.
  std::int64_t index = -1;
  Value current, before;
  std::optional<Value> after;  // The next item, where it has been looked at.

  const std::optional<Value>& peek();
  bool advance();  // To the next item, if there is one.
};

struct Scope {
  const Scope* parent = nullptr;
  Loop* loop = nullptr;  // The loop, in the scope of one of its rounds.
  Dict variables;
};

// A macro or a global function.
struct Function {
  std::function<Value(Interpreter&, const Arguments&)> call;
};

enum class Flow { kNormal, kBreak, kContinue };

class Interpreter {
 public:
  static constexpr int kMaxDepth = 1000;              // Calls of the interpreter inside itself.
  static constexpr std::int64_t kMaxRange = 100'000;  // As in Jinja's sandbox.

  explicit Interpreter(const std::vector<std::pair<std::string, Value>>& globals);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The text of the template; afterwards the interpreter is used up. Throws Failure for what fails or is not supported,
  // and InputError with the template's own message for raise_exception().
  std::string run(const Body& body);
  [[nodiscard]] const int& line() const { return line_; }  // Where it is, or has failed.

  // Statements.
  void execute(const Body& body);
  void execute(const ForLoop& loop);
  // What `body` writes, in a scope of its own.
  std::string written_by(const Body& body);
  void define(const Macro& macro);
  // `target` is a name or "namespace.attribute".
  void assign(const std::string& target, Value value);
  void write(std::string_view text) { append(budget, out_, text); }

  // Expressions.
  Value evaluate(Expression node);
  Value name(const std::string& name);
  Loop& loop();  // The innermost.
  Value call(const std::string& name, const CallArguments& arguments);
  Arguments arguments(const CallArguments& arguments);

  Budget budget;
  Flow flow = Flow::kNormal;  // What {% break %} or {% continue %} asks of the innermost loop.

  // A string or a list that is paid for.
  Value made(std::string text);
  Value made(List list);
  // A dict that the template can change; kept until the end, because it may hold itself.
  std::shared_ptr<Namespace> make_namespace();
  // What a for loop goes over. Refuses what has no items.
  List items_of(const Value& value);

 private:
  template <typename Action>
  void in_scope(Scope scope, Action action);
  // The innermost variable of that name; null: there is none.
  const Value* find(std::string_view name);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  void assign_all(const std::vector<std::string>& targets, const Value& value);

  Scope globals_;
  Scope* scope_ = &globals_;  // The innermost.
  std::string out_;
  // Namespaces may hold themselves: they are let go one by one at the end, so that nothing leaks and no chain of them
  // is freed in one deep recursion.
  std::vector<std::shared_ptr<Namespace>> namespaces_;
  int depth_ = 0;
  int line_ = 1;
};

// The arguments of a call of `what` by the parameters that they are for; null where one is not given. Refuses those
// that are for none.
std::vector<const Value*> bind(Budget& budget, const std::string& what,
                               const std::vector<std::string_view>& parameters, const Arguments& given);
// dict[key] = value, which is paid for.
void put(Budget& budget, Dict& dict, const std::string& key, Value value);

// operators.cpp
// How many items, keys or characters the value has; 0 if it is not one of those.
std::int64_t size_of(Interpreter& run, const Value& value);
Value get_attribute(const Value& object, const std::string& name);
Value get_item(Interpreter& run, const Value& object, const Value& key);
// object[begin:end:step]; None where one is not given.
Value get_slice(Interpreter& run, const Value& object, const Value& begin, const Value& end,
                const Value& step);
// `a op b` of all operators but "and" and "or", which may leave out `b`.
Value operate(Interpreter& run, const std::string& op, const Value& a, const Value& b);

}  // namespace tte::text::jinja
