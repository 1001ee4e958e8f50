#include "text/jinja/interpreter.h"

#include <algorithm>
#include <exception>

#include "base/printable.h"
#include "base/stack.h"
#include "text/jinja/strings.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text::jinja {

void refuse(const std::string& what) {
  throw Failure(fmt::format("{} is not supported by tte", what));
}

void fail_undefined(const Undefined& undefined) {
  throw Failure(fmt::format("{} is not defined", base::printable(undefined.name, 60)));
}

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [key, value] : scope->variables) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& [key, old] : variables) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

Interpreter::Level::Level(Interpreter& run, int line)
    : run_(run), line_(run.line_), exceptions_(std::uncaught_exceptions()) {
  run_.line_ = line;
  if (run_.depth_ >= kMaxDepth || base::stack_left() < base::kStackReserve) {
    throw Failure(fmt::format("it calls itself too deep ({} levels) for the stack", run_.depth_));
  }
  ++run_.depth_;
}

Interpreter::Level::~Level() {
  --run_.depth_;
  // A failure is told with the line where it happened.
  if (std::uncaught_exceptions() == exceptions_) run_.line_ = line_;
}

Interpreter::Interpreter(const std::string& name, const std::vector<std::pair<std::string, Value>>& globals)
    : name_(name) {
  globals_->variables = global_functions(*this);
  for (const auto& [key, value] : globals) globals_->set(key, value);
}

Interpreter::~Interpreter() {
  for (const auto& names : namespaces_) names->items.clear();
  for (const auto& scope : closures_) scope->variables.clear();
}

Value Interpreter::made(std::string text) {
  if (text.size() > kMaxText) throw Failure(fmt::format("a text becomes longer than {} bytes", kMaxText));
  budget.take(1, text.size() + 64);
  return text;
}

Value Interpreter::made(List list) {
  budget.take(list.size() + 1, sizeof(Value));
  return list;
}

std::shared_ptr<Namespace> Interpreter::make_namespace() {
  budget.take(1, 2 * sizeof(Namespace));
  return namespaces_.emplace_back(std::make_shared<Namespace>());
}

Interpreter::Next Interpreter::iterate(const Value& value) {
  if (value.list() != nullptr) {
    return [this, value, i = std::size_t{0}]() mutable -> std::optional<Value> {
      budget.step();
      if (i == value.list()->size()) return std::nullopt;
      return (*value.list())[i++];
    };
  }
  if (value.text() != nullptr) {
    return [this, value, at = std::size_t{0}]() mutable -> std::optional<Value> {
      if (at == value.text()->size()) return std::nullopt;
      const std::size_t begin = at;
      next_code_point(*value.text(), at);
      budget.step();
      return made(value.text()->substr(begin, at - begin));
    };
  }
  if (value.dict() != nullptr) {
    return [this, value, i = std::size_t{0}]() mutable -> std::optional<Value> {
      if (i == value.dict()->items.size()) return std::nullopt;
      return made(value.dict()->items[i++].first);
    };
  }
  if (value.iterator() != nullptr) {
    return [this, value] {
      const Level level(*this, line_);
      budget.step();
      Iterator& self = *value.iterator();
      if (std::exchange(self.running, true)) throw Failure("a generator is read while it reads itself");
      std::optional<Value> item = self.next();
      self.running = false;
      return item;
    };
  }
  if (value.is_undefined()) return [] { return std::nullopt; };
  refuse(fmt::format("going over a {}", value.type_name()));
}

List Interpreter::items_of(const Value& value) {
  if (const List* list = value.list()) {
    budget.take(list->size(), sizeof(Value));
    List out(list->begin(), list->end());
    return out;
  }
  List out;
  const Next next = iterate(value);
  while (std::optional<Value> item = next()) {
    budget.take(1, sizeof(Value));
    out.push_back(std::move(*item));
  }
  return out;
}

std::string Interpreter::run(const Body& body) {
  std::string out;
  try {
    execute(body, std::make_shared<Scope>(Scope{{}, globals_}), out);
  } catch (const Failure& failure) {
    throw ModelError(fmt::format("{}, line {}: {}.", base::printable(name_, 200), line_, failure.what()));
  }
  return out;
}

void Interpreter::write(std::string& out, std::string_view text) {
  if (text.size() > kMaxText - std::min(out.size(), kMaxText)) {
    throw Failure(fmt::format("the text becomes longer than {} bytes", kMaxText));
  }
  budget.take(1, text.size());
  out += text;
}

Interpreter::Flow Interpreter::execute(const Body& body, const ScopePtr& scope, std::string& out) {
  for (const auto& node : body) {
    if (const Flow flow = execute(*node, scope, out); flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const Statement& node, const ScopePtr& scope, std::string& out) {
  const Level level(*this, node.line);
  budget.step();
  using Kind = Statement::Kind;
  switch (node.kind) {
    case Kind::kData:
      write(out, node.text);
      break;
    case Kind::kOutput:
      write(out, text_of(evaluate(*node.value, scope)));
      break;
    case Kind::kIf:
      return execute_if(node, scope, out);
    case Kind::kFor:
      return execute_for(node, scope, out);
    case Kind::kSet:
      assign_all(node.targets, evaluate(*node.value, scope), scope);
      break;
    case Kind::kSetBlock:
    case Kind::kFilter:
      execute_filter(node, scope, out);
      break;
    case Kind::kMacro:
      define_macro(node, scope);
      break;
    case Kind::kWith:
      return execute_with(node, scope, out);
    case Kind::kScope:
      return execute(node.body, std::make_shared<Scope>(Scope{{}, scope}), out);
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute_if(const Statement& node, const ScopePtr& scope, std::string& out) {
  for (const auto& [test, then] : node.branches) {
    if (test == nullptr || evaluate(*test, scope).truthy()) return execute(then, scope, out);
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute_for(const Statement& node, const ScopePtr& scope, std::string& out) {
  const Value items = evaluate(*node.value, scope);
  const auto loop = std::make_shared<Loop>();
  loop->next = iterate(items);
  if (node.filter != nullptr) {
    loop->next = [this, &node, scope, all = std::move(loop->next)]() -> std::optional<Value> {
      while (std::optional<Value> item = all()) {
        const auto inner = std::make_shared<Scope>(Scope{{}, scope});
        assign_all(node.targets, *item, inner);
        if (evaluate(*node.filter, inner).truthy()) return item;
      }
      return std::nullopt;
    };
  } else if (items.list() != nullptr) {
    loop->length = static_cast<std::int64_t>(items.list()->size());
  }
  bool completed = false;
  while (true) {
    std::optional<Value> item = loop->after ? *std::exchange(loop->after, std::nullopt) : loop->next();
    if (!item) break;
    ++loop->index;
    loop->before = std::exchange(loop->current, *item);
    const auto inner = std::make_shared<Scope>(Scope{{}, scope});
    inner->set("loop", loop);
    assign_all(node.targets, *item, inner);
    const Flow flow = execute(node.body, inner, out);
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNormal;
  }
  // As in Jinja, else is for loops none of whose rounds came to its end.
  if (completed) return Flow::kNormal;
  return execute(node.otherwise, std::make_shared<Scope>(Scope{{}, scope}), out);
}

Interpreter::Flow Interpreter::execute_with(const Statement& node, const ScopePtr& scope, std::string& out) {
  const auto inner = std::make_shared<Scope>(Scope{{}, scope});
  for (std::size_t i = 0; i < node.targets.size(); ++i)
    inner->set(node.targets[i], evaluate(*node.defaults[i], scope));
  return execute(node.body, inner, out);
}

void Interpreter::execute_filter(const Statement& node, const ScopePtr& scope, std::string& out) {
  std::string text;
  const auto inner = std::make_shared<Scope>(Scope{{}, scope});
  if (execute(node.body, inner, text) != Flow::kNormal) refuse("leaving a loop from inside a block");
  Value value = made(std::move(text));
  if (node.filter != nullptr) value = filter(*node.filter, scope, &value);
  if (node.kind == Statement::Kind::kSetBlock) {
    assign(node.targets.front(), std::move(value), scope);
  } else {
    write(out, text_of(value));
  }
}

void Interpreter::define_macro(const Statement& node, const ScopePtr& scope) {
  budget.take(1, sizeof(Function));
  if (closures_.empty() || closures_.back() != scope) closures_.push_back(scope);
  // The scope outlives all its macros: it is kept in closures_.
  scope->set(
      node.text,
      Function{node.text, [this, &node, closure = std::weak_ptr<Scope>(scope)](const Arguments& arguments) {
                 return call_macro(node, closure.lock(), arguments);
               }});
}

Value Interpreter::call_macro(const Statement& node, const ScopePtr& closure, const Arguments& arguments) {
  const auto& names = node.targets;
  if (arguments.positional.size() > names.size()) {
    refuse(fmt::format("macro {} with {} arguments", base::printable(node.text, 60),
                       arguments.positional.size()));
  }
  const auto scope = std::make_shared<Scope>(Scope{{}, closure});
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) scope->set(names[i], arguments.positional[i]);
  for (const auto& [key, value] : arguments.named) {
    const auto at = std::find(names.begin(), names.end(), key);
    if (at == names.end() || at - names.begin() < static_cast<std::ptrdiff_t>(arguments.positional.size())) {
      refuse(fmt::format("macro {} with an argument {}", base::printable(node.text, 60),
                         base::printable(key, 60)));
    }
  }
  for (std::size_t i = arguments.positional.size(); i < names.size(); ++i) {
    const auto given = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& named) { return named.first == names[i]; });
    scope->set(names[i], given != arguments.named.end() ? given->second
                         : node.defaults[i] == nullptr  ? Value(Undefined{names[i]})
                                                        : evaluate(*node.defaults[i], scope));
  }
  std::string out;
  execute(node.body, scope, out);
  return made(std::move(out));
}

void Interpreter::assign_all(const std::vector<std::string>& targets, const Value& value,
                             const ScopePtr& scope) {
  if (targets.size() == 1) return assign(targets.front(), value, scope);
  const List items = items_of(value);
  if (items.size() != targets.size()) {
    throw Failure(fmt::format("{} values cannot be given to {} names", items.size(), targets.size()));
  }
  for (std::size_t i = 0; i < targets.size(); ++i) assign(targets[i], items[i], scope);
}

void Interpreter::assign(const std::string& target, Value value, const ScopePtr& scope) {
  const std::size_t dot = target.find('.');
  if (dot == std::string::npos) return scope->set(target, std::move(value));
  const std::string object_name = target.substr(0, dot);
  const Value* object = scope->find(object_name);
  Namespace* names = object == nullptr ? nullptr : object->names();
  if (names == nullptr) {
    throw Failure(fmt::format("{} is not a namespace(), so {} cannot be set",
                              base::printable(object_name, 60), base::printable(target, 60)));
  }
  budget.step(1 + static_cast<std::int64_t>(names->items.size() / 16));
  names->set(target.substr(dot + 1), std::move(value));
}

Value Interpreter::evaluate(const Expression& node, const ScopePtr& scope) {
  const Level level(*this, node.line);
  budget.step();
  Value value = evaluate_here(node, scope);
  if (value.shared<Loop>() != nullptr) refuse("loop as a value of its own");
  return value;
}

Value Interpreter::evaluate_here(const Expression& node, const ScopePtr& scope) {
  using Kind = Expression::Kind;
  switch (node.kind) {
    case Kind::kConstant:
      return node.value;
    case Kind::kName:
      return name(node, scope);
    case Kind::kList:
      return list(node, scope);
    case Kind::kDict:
      return dict(node, scope);
    case Kind::kUnary:
      return unary(node, scope);
    case Kind::kBinary:
      return binary(node, scope);
    case Kind::kCompare:
      return compare(node, scope);
    case Kind::kCondition:
      return condition(node, scope);
    case Kind::kAttribute:
      return attribute(node, scope);
    case Kind::kItem:
      return get_item(*this, evaluate(*node.args[0], scope), evaluate(*node.args[1], scope));
    case Kind::kSlice:
      return slice(node, scope);
    case Kind::kCall:
      return call(node, scope);
    case Kind::kFilter:
      return filter(node, scope, nullptr);
    case Kind::kTest:
      return test(node, scope);
  }
  return {};
}

Value Interpreter::name(const Expression& node, const ScopePtr& scope) {
  if (const Value* value = scope->find(node.text)) return *value;
  // Jinja's own globals, and what it defines in macros.
  for (const char* known : {"cycler", "joiner", "lipsum", "self", "super", "caller", "varargs", "kwargs"}) {
    if (node.text == known) refuse(node.text);
  }
  return Undefined{node.text};
}

Value Interpreter::attribute(const Expression& node, const ScopePtr& scope) {
  if (node.args[0]->kind == Expression::Kind::kName) {
    const Value object = name(*node.args[0], scope);
    if (const auto* loop = object.as<std::shared_ptr<Loop>>()) return loop_attribute(*this, *loop, node.text);
    return get_attribute(*this, object, node.text);
  }
  return get_attribute(*this, evaluate(*node.args[0], scope), node.text);
}

Value Interpreter::list(const Expression& node, const ScopePtr& scope) {
  List items;
  if (node.text == "tuple") items.kind = List::Kind::kTuple;
  items.reserve(node.args.size());
  for (const auto& arg : node.args) items.push_back(evaluate(*arg, scope));
  return made(std::move(items));
}

Value Interpreter::dict(const Expression& node, const ScopePtr& scope) {
  Dict dict;
  for (std::size_t i = 0; i + 1 < node.args.size(); i += 2) {
    const Value key = evaluate(*node.args[i], scope);
    if (key.text() == nullptr) refuse(fmt::format("a {} as the key of a dict", key.type_name()));
    budget.take(1, key.text()->size() + sizeof(Value));
    budget.step(static_cast<std::int64_t>(dict.items.size()) / 16);
    dict.set(*key.text(), evaluate(*node.args[i + 1], scope));
  }
  return dict;
}

Value Interpreter::unary(const Expression& node, const ScopePtr& scope) {
  const Value value = evaluate(*node.args[0], scope);
  if (node.text == "not") return !value.truthy();
  if (const auto* number = value.as<double>()) return node.text == "-" ? -*number : *number;
  return arithmetic(*this, node.text, Value(std::int64_t{0}), value);
}

Value Interpreter::binary(const Expression& node, const ScopePtr& scope) {
  Value left = evaluate(*node.args[0], scope);
  if (node.text == "and") return left.truthy() ? evaluate(*node.args[1], scope) : left;
  if (node.text == "or") return left.truthy() ? left : evaluate(*node.args[1], scope);
  const Value right = evaluate(*node.args[1], scope);
  if (node.text == "~") return made(text_of(left) + text_of(right));
  return arithmetic(*this, node.text, left, right);
}

Value Interpreter::compare(const Expression& node, const ScopePtr& scope) {
  Value left = evaluate(*node.args[0], scope);
  for (std::size_t i = 0; i < node.names.size(); ++i) {
    Value right = evaluate(*node.args[i + 1], scope);
    if (!compares(*this, node.names[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::condition(const Expression& node, const ScopePtr& scope) {
  if (evaluate(*node.args[1], scope).truthy()) return evaluate(*node.args[0], scope);
  if (node.args[2] != nullptr) return evaluate(*node.args[2], scope);
  return Undefined{"the inline if without else"};
}

Value Interpreter::slice(const Expression& node, const ScopePtr& scope) {
  const Value object = evaluate(*node.args[0], scope);
  std::int64_t bounds[3] = {0, 0, 1};
  bool given[3] = {};
  for (std::size_t i = 0; i < 3; ++i) {
    const Value value = node.args[i + 1] == nullptr ? Value(None{}) : evaluate(*node.args[i + 1], scope);
    if (value.is_none()) continue;
    given[i] = true;
    if (!value.integer(bounds[i])) refuse(fmt::format("a {} as the bound of a slice", value.type_name()));
  }
  if (bounds[2] == 0) throw Failure("the step of a slice is 0");
  const std::string* text = object.text();
  if (text == nullptr && (object.list() == nullptr || object.list()->kind > List::Kind::kTuple)) {
    refuse(fmt::format("a slice of a {}", object.type_name()));
  }
  if (text != nullptr) budget.work(text->size());
  const auto size = text != nullptr ? length(*text) : static_cast<std::int64_t>(object.list()->size());
  const bool back = bounds[2] < 0;
  const auto bound = [&](std::size_t i, std::int64_t fallback) {
    if (!given[i]) return fallback;
    const std::int64_t low = back ? -1 : 0;
    return std::clamp(bounds[i] < 0 ? bounds[i] + size : bounds[i], low, back ? size - 1 : size);
  };
  const std::int64_t begin = bound(0, back ? size - 1 : 0);
  const std::int64_t end = bound(1, back ? -1 : size);
  if (text != nullptr && bounds[2] == 1) {
    const std::size_t from = offset_of(*text, begin);
    return made(text->substr(from, offset_of(std::string_view(*text).substr(from), end - begin)));
  }
  if (text != nullptr) budget.take(text->size(), sizeof(std::string_view));
  const auto parts = text != nullptr ? characters(*text) : std::vector<std::string_view>{};
  std::string characters_out;
  List items;
  if (text == nullptr) items.kind = object.list()->kind;
  for (std::int64_t i = begin; back ? i > end : i < end;) {
    const auto at = static_cast<std::size_t>(i);
    text != nullptr ? void(characters_out += parts[at]) : items.push_back((*object.list())[at]);
    if (back ? bounds[2] < end - i : bounds[2] > end - i) break;  // No overflow.
    i += bounds[2];
  }
  return text != nullptr ? made(std::move(characters_out)) : made(std::move(items));
}

Arguments Interpreter::arguments(const Expression& node, const ScopePtr& scope) {
  Arguments out;
  for (std::size_t i = 1; i < node.args.size(); ++i) out.positional.push_back(evaluate(*node.args[i], scope));
  for (const auto& [key, value] : node.named) out.named.emplace_back(key, evaluate(*value, scope));
  return out;
}

Value Interpreter::call(const Expression& node, const ScopePtr& scope) {
  const Value function = evaluate(*node.args[0], scope);
  if (const auto* undefined = function.as<Undefined>()) {
    throw Failure(
        fmt::format("{} is not defined or not supported by tte", base::printable(undefined->name, 60)));
  }
  if (function.function() == nullptr)
    throw Failure(fmt::format("a {} cannot be called", function.type_name()));
  return function.function()->call(arguments(node, scope));
}

Value Interpreter::filter(const Expression& node, const ScopePtr& scope, const Value* input) {
  Value value;
  const Expression* inner = node.args[0].get();
  if (inner == nullptr) {
    if (input == nullptr) throw Failure("a filter has no input");
    value = *input;
  } else {
    value = input != nullptr && inner->kind == Expression::Kind::kFilter ? filter(*inner, scope, input)
                                                                         : evaluate(*inner, scope);
  }
  return call_filter(*this, node.text, value, arguments(node, scope));
}

Value Interpreter::test(const Expression& node, const ScopePtr& scope) {
  // Whether there is a loop is all that can be asked of it.
  const bool defined = node.text == "defined" || node.text == "undefined";
  const Value value = defined && node.args[0]->kind == Expression::Kind::kName
                          ? name(*node.args[0], scope)
                          : evaluate(*node.args[0], scope);
  return call_test(*this, node.text, value, arguments(node, scope));
}

}  // namespace tte::text::jinja
