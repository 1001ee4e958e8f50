#include "text/jinja/interpreter.h"

#include <algorithm>
#include <exception>

#include "base/printable.h"
#include "base/stack.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text::jinja {

void fail_undefined(const Undefined& undefined) {
  throw Failure(fmt::format("{} is not defined", base::printable(undefined.name, 60)));
}

namespace {

void refuse_to_keep(const Value& value) {
  if (value.list() != nullptr && value.list()->kind == List::Kind::kGenerator) {
    refuse("keeping a generator (add |list to it)");
  }
}

}  // namespace

const std::optional<Value>& Loop::peek() {
  for (; !after && position < rest.size(); ++position) {
    if (!keeps || keeps(rest[position])) after = rest[position];
  }
  return after;
}

bool Loop::advance() {
  if (!peek()) return false;
  ++index;
  before = std::exchange(current, *std::exchange(after, std::nullopt));
  return true;
}

std::int64_t Loop::length() {
  List kept;
  while (peek()) kept.push_back(*std::exchange(after, std::nullopt));
  rest = std::move(kept);
  position = 0;
  keeps = nullptr;
  return index + 1 + static_cast<std::int64_t>(rest.size());
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
  globals_->variables = global_functions();
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

List Interpreter::items_of(const Value& value) {
  List out;
  if (const List* list = value.list()) {
    budget.take(list->size(), sizeof(Value));
    out.assign(list->begin(), list->end());
  } else if (const std::string* text = value.text()) {
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t begin = at;
      next_code_point(*text, at);
      budget.take(1, sizeof(Value));
      out.push_back(made(text->substr(begin, at - begin)));
    }
  } else if (const Dict* dict = value.dict()) {
    for (const auto& [key, unused] : dict->items) out.push_back(made(key));
  } else if (!value.is_undefined()) {
    refuse(fmt::format("going over a {}", value.type_name()));
  }
  budget.step(static_cast<std::int64_t>(out.size()));
  return out;
}

std::string Interpreter::run(const Body& body) {
  std::string out;
  try {
    execute(body, std::make_shared<Scope>(Scope{{}, globals_, nullptr}), out);
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
      assign(node.targets.front(), evaluate(*node.value, scope), *scope);
      break;
    case Kind::kSetBlock:
      execute_set_block(node, scope);
      break;
    case Kind::kMacro:
      define_macro(node, scope);
      break;
    case Kind::kScope:
      return execute(node.body, std::make_shared<Scope>(Scope{{}, scope, nullptr}), out);
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
    case Kind::kUnsupported:
      refuse(node.text);
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
  const auto loop = std::make_shared<Loop>();
  loop->rest = items_of(evaluate(*node.value, scope));
  if (node.filter != nullptr) {
    loop->keeps = [&](const Value& item) {
      const auto inner = std::make_shared<Scope>(Scope{{}, scope, nullptr});
      assign_all(node.targets, item, *inner);
      return evaluate(*node.filter, inner).truthy();
    };
  }
  bool completed = false;
  while (loop->advance()) {
    const auto inner = std::make_shared<Scope>(Scope{{}, scope, loop});
    assign_all(node.targets, loop->current, *inner);
    const Flow flow = execute(node.body, inner, out);
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNormal;
  }
  loop->over = true;
  // As in Jinja, else is for loops none of whose rounds came to its end.
  if (completed) return Flow::kNormal;
  return execute(node.otherwise, std::make_shared<Scope>(Scope{{}, scope, nullptr}), out);
}

void Interpreter::execute_set_block(const Statement& node, const ScopePtr& scope) {
  std::string text;
  const auto inner = std::make_shared<Scope>(Scope{{}, scope, nullptr});
  if (execute(node.body, inner, text) != Flow::kNormal) refuse("leaving a loop from inside a block");
  assign(node.targets.front(), made(std::move(text)), *scope);
}

void Interpreter::define_macro(const Statement& node, const ScopePtr& scope) {
  budget.take(1, sizeof(Function));
  if (closures_.empty() || closures_.back() != scope) closures_.push_back(scope);
  scope->set(node.text, std::make_shared<const Function>(Function{node.text, nullptr, &node, scope}));
}

Value Interpreter::call_macro(const Function& function, const Arguments& arguments) {
  const Statement& node = *function.macro;
  const auto& names = node.targets;
  const auto refuse_call = [&](const std::string& what) {
    refuse(fmt::format("macro {} with {}", base::printable(node.text, 60), what));
  };
  const auto& given = arguments.positional;
  if (given.size() > names.size()) refuse_call(fmt::format("{} arguments", given.size()));
  const ScopePtr closure = function.scope.lock();
  const auto scope = std::make_shared<Scope>(Scope{{}, closure, nullptr});
  for (std::size_t i = 0; i < given.size(); ++i) scope->set(names[i], given[i]);
  for (const auto& [key, value] : arguments.named) {
    const auto at = static_cast<std::size_t>(std::find(names.begin(), names.end(), key) - names.begin());
    if (at == names.size() || at < given.size()) refuse_call("an argument " + base::printable(key, 60));
  }
  for (std::size_t i = given.size(); i < names.size(); ++i) {
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& argument) { return argument.first == names[i]; });
    scope->set(names[i], named != arguments.named.end() ? named->second
                         : node.defaults[i] == nullptr  ? Value(Undefined{names[i]})
                                                        : evaluate_to_keep(*node.defaults[i], scope));
  }
  std::string out;
  execute(node.body, scope, out);
  return made(std::move(out));
}

void Interpreter::assign_all(const std::vector<std::string>& targets, const Value& value, Scope& scope) {
  if (targets.size() == 1) return assign(targets.front(), value, scope);
  const List items = items_of(value);
  if (items.size() != targets.size()) {
    throw Failure(fmt::format("{} values cannot be given to {} names", items.size(), targets.size()));
  }
  for (std::size_t i = 0; i < targets.size(); ++i) assign(targets[i], items[i], scope);
}

void Interpreter::assign(const std::string& target, Value value, Scope& scope) {
  refuse_to_keep(value);
  const std::size_t dot = target.find('.');
  if (dot == std::string::npos) return scope.set(target, std::move(value));
  const std::string object_name = target.substr(0, dot);
  const Value* object = scope.find(object_name);
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
  return evaluate_here(node, scope);
}

Value Interpreter::evaluate_to_keep(const Expression& node, const ScopePtr& scope) {
  Value value = evaluate(node, scope);
  refuse_to_keep(value);
  return value;
}

Value Interpreter::evaluate_here(const Expression& node, const ScopePtr& scope) {
  using Kind = Expression::Kind;
  switch (node.kind) {
    case Kind::kConstant:
      return node.value;
    case Kind::kName:
      return name(node, scope);
    case Kind::kLoop:
      return loop(node, scope);
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
      return get_attribute(evaluate(*node.args[0], scope), node.text);
    case Kind::kItem:
      return get_item(*this, evaluate(*node.args[0], scope), evaluate(*node.args[1], scope));
    case Kind::kSlice:
      return slice(node, scope);
    case Kind::kCall:
      return call(node, scope);
    case Kind::kMethod:
    case Kind::kFilter:
    case Kind::kTest:
      return call_builtin(node, scope);
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

Value Interpreter::loop(const Expression& node, const ScopePtr& scope) {
  const Scope* at = scope.get();
  while (at != nullptr && at->loop == nullptr) at = at->parent.get();
  if (at == nullptr && !node.text.empty()) fail_undefined({"loop"});
  if (at == nullptr) return Undefined{"loop"};
  Loop& loop = *at->loop;
  if (loop.over) refuse("a loop after its end");
  if (node.text == "index") return loop.index + 1;
  if (node.text == "index0") return loop.index;
  if (node.text == "revindex") return loop.length() - loop.index;
  if (node.text == "revindex0") return loop.length() - loop.index - 1;
  if (node.text == "first") return loop.index == 0;
  if (node.text == "last") return !loop.peek();
  if (node.text == "length") return loop.length();
  if (node.text == "previtem") return loop.index == 0 ? Value(Undefined{"loop.previtem"}) : loop.before;
  if (node.text == "nextitem") return loop.peek() ? *loop.peek() : Value(Undefined{"loop.nextitem"});
  if (node.text.empty()) return true;  // There is one, which is all that can be asked of it.
  refuse(fmt::format("loop.{}", base::printable(node.text, 60)));
}

Value Interpreter::list(const Expression& node, const ScopePtr& scope) {
  List items;
  if (node.text == "tuple") items.kind = List::Kind::kTuple;
  items.reserve(node.args.size());
  for (const auto& arg : node.args) items.push_back(evaluate_to_keep(*arg, scope));
  return made(std::move(items));
}

Value Interpreter::dict(const Expression& node, const ScopePtr& scope) {
  Dict dict;
  for (std::size_t i = 0; i + 1 < node.args.size(); i += 2) {
    const Value key = evaluate(*node.args[i], scope);
    if (key.text() == nullptr) refuse(fmt::format("a {} as the key of a dict", key.type_name()));
    budget.take(1, key.text()->size() + sizeof(Value));
    budget.step(static_cast<std::int64_t>(dict.items.size()) / 16);
    dict.set(*key.text(), evaluate_to_keep(*node.args[i + 1], scope));
  }
  return dict;
}

Value Interpreter::unary(const Expression& node, const ScopePtr& scope) {
  const Value value = evaluate(*node.args[0], scope);
  if (node.text == "not") return !value.truthy();
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
  const auto bound = [&](std::size_t i) -> std::optional<std::int64_t> {
    const Value value = node.args[i] == nullptr ? Value(None{}) : evaluate(*node.args[i], scope);
    if (value.is_none()) return std::nullopt;
    if (!value.integer()) refuse(fmt::format("a {} as the bound of a slice", value.type_name()));
    return value.integer();
  };
  const auto first = bound(1);
  const auto last = bound(2);
  const std::int64_t step = bound(3).value_or(1);
  const std::string* text = object.text();
  const List* list = object.list();
  if (text == nullptr && (list == nullptr || !list->plain())) {
    refuse(fmt::format("a slice of a {}", object.type_name()));
  }
  const bool back = step == -1 && list != nullptr;
  if (step != 1 && !back) refuse(fmt::format("a step of {} in a slice of a {}", step, object.type_name()));
  if (text != nullptr) budget.work(text->size());
  const auto size = text != nullptr ? length(*text) : static_cast<std::int64_t>(list->size());
  const auto clamped = [&](std::optional<std::int64_t> at, std::int64_t fallback) {
    if (!at) return fallback;
    return std::clamp<std::int64_t>(*at < 0 ? *at + size : *at, back ? -1 : 0, back ? size - 1 : size);
  };
  const std::int64_t begin = clamped(first, back ? size - 1 : 0);
  const std::int64_t end = clamped(last, back ? -1 : size);
  if (text != nullptr) {
    const std::size_t from = offset_of(*text, begin);
    return made(text->substr(from, offset_of(std::string_view(*text).substr(from), end - begin)));
  }
  List items(list->kind);
  for (std::int64_t i = begin; back ? i > end : i < end; i += step) {
    items.push_back((*list)[static_cast<std::size_t>(i)]);
  }
  return made(std::move(items));
}

Arguments Interpreter::arguments(const Expression& node, const ScopePtr& scope) {
  Arguments out;
  for (std::size_t i = 1; i < node.args.size(); ++i) {
    out.positional.push_back(evaluate_to_keep(*node.args[i], scope));
  }
  for (const auto& [key, value] : node.named) out.named.emplace_back(key, evaluate_to_keep(*value, scope));
  return out;
}

Value Interpreter::call(const Expression& node, const ScopePtr& scope) {
  const Value called = evaluate(*node.args[0], scope);
  if (const auto* undefined = called.as<Undefined>()) fail_undefined(*undefined);
  const Function* function = called.function();
  if (function == nullptr) throw Failure(fmt::format("a {} cannot be called", called.type_name()));
  const Arguments given = arguments(node, scope);
  return function->macro != nullptr ? call_macro(*function, given)
                                    : invoke(*this, *function->builtin, None{}, given);
}

Value Interpreter::call_builtin(const Expression& node, const ScopePtr& scope) {
  const bool method = node.kind == Expression::Kind::kMethod;
  const Value input = evaluate(*node.args[0], scope);
  if (node.builtin == nullptr) {
    const char* kind = method ? "method" : node.kind == Expression::Kind::kTest ? "test" : "filter";
    refuse(fmt::format("the {} {}", kind, base::printable(node.text, 60)));
  }
  if (method) {
    if (const auto* undefined = input.as<Undefined>()) fail_undefined(*undefined);
    if (node.builtin->of_dict ? input.dict() == nullptr : input.text() == nullptr) {
      refuse(fmt::format("the method {} of a {}", node.text, input.type_name()));
    }
  }
  return invoke(*this, *node.builtin, input, arguments(node, scope));
}

}  // namespace tte::text::jinja
