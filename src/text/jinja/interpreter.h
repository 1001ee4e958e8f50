// Runs a parsed template. Bounded in time, memory and stack, because templates come from the internet.
#pragma once

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

class Interpreter {
 public:
  static constexpr std::int64_t kMaxSteps = 5'000'000;            // Nodes of the tree, items of lists.
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 30;  // Of all strings and lists made on the way.
  static constexpr std::size_t kMaxOutput = kMaxText;             // Of the result.
  static constexpr int kMaxDepth = 1000;                          // Of the interpreter in itself.
  static constexpr std::int64_t kMaxRange = 100'000;              // As in Jinja's sandbox.

  Interpreter(const std::string& name, const std::vector<std::pair<std::string, Value>>& globals);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The text of the template. Throws ModelError naming template and line for what fails or is not supported,
  // and InputError with the template's own message for raise_exception().
  std::string run(const Body& body);

  [[noreturn]] void fail(int line, const std::string& what) const;
  void step(std::int64_t steps = 1);
  // Pays for looking for `needle` bytes in `size` bytes (or, needle 1, for going over them).
  void scan(std::size_t size, std::size_t needle = 1);
  // Fails if a string of `count` times `size` bytes would be too long.
  void expect_room(int line, std::size_t count, std::size_t size) const;
  bool same(const Value& a, const Value& b) { return equal(a, b, steps_, kMaxSteps); }
  // A string or a list that counts against kMaxBytes.
  Value made(std::string text);
  Value made(List list);
  // A dict that the template can change: emptied at the end, because it may hold itself.
  std::shared_ptr<Dict> make_namespace();
  // The items of what a for loop can go over.
  std::shared_ptr<const List> items_of(const Value& value, int line);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  using ScopePtr = std::shared_ptr<Scope>;
  struct Level;

  Flow execute(const Body& body, const ScopePtr& scope, std::string& out);
  Flow execute(const Statement& node, const ScopePtr& scope, std::string& out);
  Flow execute_if(const Statement& node, const ScopePtr& scope, std::string& out);
  Flow execute_for(const Statement& node, const ScopePtr& scope, std::string& out);
  Flow execute_with(const Statement& node, const ScopePtr& scope, std::string& out);
  void execute_macro(const Statement& node, const ScopePtr& scope);
  void execute_filter(const Statement& node, const ScopePtr& scope, std::string& out);
  Value call_macro(const Statement& node, const ScopePtr& closure, const Arguments& arguments, int line);
  void assign(const std::string& target, Value value, const ScopePtr& scope, int line);
  void assign_all(const std::vector<std::string>& targets, const Value& value, const ScopePtr& scope,
                  int line);
  void write(std::string& out, std::string_view text, int line);

  Value evaluate(const Expression& node, const ScopePtr& scope);
  Value evaluate_here(const Expression& node, const ScopePtr& scope);
  Value name(const Expression& node, const ScopePtr& scope);
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
  std::vector<std::weak_ptr<Dict>> namespaces_;
  std::vector<std::weak_ptr<Scope>> closures_;
  std::int64_t steps_ = 0;
  std::size_t bytes_ = 0;
  int depth_ = 0;
};

// builtins.cpp and filters.cpp: what templates can call. All throw through Interpreter::fail.
Value get_attribute(Interpreter& run, const Value& object, const std::string& name, int line);
Value get_item(Interpreter& run, const Value& object, const Value& key, int line);
Value arithmetic(Interpreter& run, const std::string& op, const Value& a, const Value& b, int line);
bool compares(Interpreter& run, const std::string& op, const Value& a, const Value& b, int line);
Value call_filter(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments,
                  int line);
bool call_test(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments,
               int line);
// range, dict, namespace, raise_exception, strftime_now.
std::vector<std::pair<std::string, Value>> global_functions();

}  // namespace tte::text::jinja
