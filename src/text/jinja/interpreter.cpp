#include "text/jinja/interpreter.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/printable.h"
#include "text/jinja/strings.h"
#include "tte/error.h"

namespace tte::text::jinja {

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

struct Interpreter::Level {
  Level(Interpreter& run, int line) : run_(run) {
    if (++run_.depth_ > kMaxDepth) {
      --run_.depth_;
      run_.fail(line, fmt::format("the template calls itself more than {} levels deep", kMaxDepth));
    }
  }
  ~Level() { --run_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;
  Interpreter& run_;
};

Interpreter::Interpreter(const std::string& name, const std::vector<std::pair<std::string, Value>>& globals)
    : name_(name) {
  globals_->variables = global_functions();
  for (const auto& [key, value] : globals) globals_->set(key, value);
}

Interpreter::~Interpreter() {
  // A namespace may hold itself, and a macro lives in the scope that it sees.
  for (const auto& weak : namespaces_) {
    if (const auto dict = weak.lock()) dict->items.clear();
  }
  for (const auto& weak : closures_) {
    if (const auto scope = weak.lock()) scope->variables.clear();
  }
}

void Interpreter::fail(int line, const std::string& what) const {
  throw ModelError(fmt::format("{}, line {}: {}.", name_, line, what));
}

void Interpreter::step(std::int64_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) throw ModelError(fmt::format("{} takes more than {} steps.", name_, kMaxSteps));
}

void Interpreter::scan(std::size_t size, std::size_t needle) {
  // In the worst case the needle almost fits everywhere.
  const double cost = static_cast<double>(size) * static_cast<double>(needle) / 4096;
  step(static_cast<std::int64_t>(std::min(cost, 1e15)));
}

void Interpreter::expect_room(int line, std::size_t count, std::size_t size) const {
  if (size != 0 && count > kMaxOutput / size) {
    fail(line, fmt::format("a text becomes longer than {} bytes", kMaxOutput));
  }
}

Value Interpreter::made(std::string text) {
  bytes_ += text.size() + 32;
  if (bytes_ > kMaxBytes)
    throw ModelError(fmt::format("{} needs more than {} bytes of memory.", name_, kMaxBytes));
  return Value(std::move(text));
}

Value Interpreter::made(List list) {
  step(static_cast<std::int64_t>(list.size()));
  bytes_ += list.size() * sizeof(Value);
  if (bytes_ > kMaxBytes)
    throw ModelError(fmt::format("{} needs more than {} bytes of memory.", name_, kMaxBytes));
  return Value(std::move(list));
}

std::shared_ptr<Dict> Interpreter::make_namespace() {
  auto dict = std::make_shared<Dict>();
  dict->is_namespace = true;
  namespaces_.push_back(dict);
  return dict;
}

std::shared_ptr<const List> Interpreter::items_of(const Value& value, int line) {
  if (const auto* list = value.as<std::shared_ptr<const List>>()) return *list;
  List items;
  if (const auto* text = value.text()) {
    for (const std::string_view character : characters(*text)) items.push_back(made(std::string(character)));
  } else if (const auto* dict = value.dict(); dict != nullptr && !dict->is_namespace) {
    for (const auto& item : dict->items) items.push_back(made(item.first));
  } else if (!value.is_undefined()) {
    fail(line, fmt::format("a {} is not something to go over", value.type_name()));
  }
  step(static_cast<std::int64_t>(items.size()));
  return std::make_shared<const List>(std::move(items));
}

std::string Interpreter::run(const Body& body) {
  std::string out;
  execute(body, std::make_shared<Scope>(Scope{{}, globals_}), out);
  return out;
}

void Interpreter::write(std::string& out, std::string_view text, int line) {
  if (text.size() > kMaxOutput - std::min(out.size(), kMaxOutput)) {
    fail(line, fmt::format("the text becomes longer than {} bytes", kMaxOutput));
  }
  bytes_ += text.size();
  if (bytes_ > kMaxBytes)
    fail(line, fmt::format("the template needs more than {} bytes of memory", kMaxBytes));
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
  step();
  using Kind = Statement::Kind;
  switch (node.kind) {
    case Kind::kData:
      write(out, node.text, node.line);
      break;
    case Kind::kOutput:
      write(out, evaluate(*node.value, scope).str(), node.line);
      break;
    case Kind::kIf:
      return execute_if(node, scope, out);
    case Kind::kFor:
      return execute_for(node, scope, out);
    case Kind::kSet:
      assign_all(node.targets, evaluate(*node.value, scope), scope, node.line);
      break;
    case Kind::kSetBlock:
    case Kind::kFilter:
      execute_filter(node, scope, out);
      break;
    case Kind::kMacro:
      execute_macro(node, scope);
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
  auto items = items_of(evaluate(*node.value, scope), node.line);
  if (node.filter != nullptr) {
    List kept;
    for (const Value& item : *items) {
      const auto inner = std::make_shared<Scope>(Scope{{}, scope});
      assign_all(node.targets, item, inner, node.line);
      if (evaluate(*node.filter, inner).truthy()) kept.push_back(item);
    }
    items = std::make_shared<const List>(std::move(kept));
  }
  if (items->empty()) return execute(node.otherwise, std::make_shared<Scope>(Scope{{}, scope}), out);
  const auto loop = std::make_shared<Loop>();
  loop->items = items;
  for (; loop->index < items->size(); ++loop->index) {
    step();
    const auto inner = std::make_shared<Scope>(Scope{{}, scope});
    inner->set("loop", loop);
    assign_all(node.targets, (*items)[loop->index], inner, node.line);
    if (execute(node.body, inner, out) == Flow::kBreak) break;
  }
  return Flow::kNormal;
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
  if (execute(node.body, inner, text) != Flow::kNormal)
    fail(node.line, "a loop cannot be left from inside a block");
  Value value = made(std::move(text));
  if (node.filter != nullptr) value = filter(*node.filter, scope, &value);
  if (node.kind == Statement::Kind::kSetBlock) {
    assign(node.targets.front(), std::move(value), scope, node.line);
  } else {
    write(out, value.str(), node.line);
  }
}

void Interpreter::execute_macro(const Statement& node, const ScopePtr& scope) {
  auto macro = std::make_shared<Callable>();
  macro->name = node.text;
  macro->call = [&node, scope](Interpreter& run, const Arguments& arguments, int line) {
    return run.call_macro(node, scope, arguments, line);
  };
  closures_.push_back(scope);
  scope->set(node.text, std::shared_ptr<const Callable>(std::move(macro)));
}

Value Interpreter::call_macro(const Statement& node, const ScopePtr& closure, const Arguments& arguments,
                              int line) {
  if (arguments.positional.size() > node.targets.size()) {
    fail(line, fmt::format("macro {} takes {} arguments, not {}", node.text, node.targets.size(),
                           arguments.positional.size()));
  }
  for (const auto& [key, value] : arguments.named) {
    if (std::find(node.targets.begin(), node.targets.end(), key) == node.targets.end()) {
      fail(line, fmt::format("macro {} has no parameter {}", node.text, base::printable(key)));
    }
  }
  const auto scope = std::make_shared<Scope>(Scope{{}, closure});
  for (std::size_t i = 0; i < node.targets.size(); ++i) {
    if (const Value* value = arguments.get(i, node.targets[i])) {
      scope->set(node.targets[i], *value);
    } else {
      scope->set(node.targets[i], node.defaults[i] == nullptr ? Value(Undefined{node.targets[i]})
                                                              : evaluate(*node.defaults[i], scope));
    }
  }
  std::string out;
  execute(node.body, scope, out);
  return made(std::move(out));
}

void Interpreter::assign_all(const std::vector<std::string>& targets, const Value& value,
                             const ScopePtr& scope, int line) {
  if (targets.size() == 1) return assign(targets.front(), value, scope, line);
  const auto items = items_of(value, line);
  if (items->size() != targets.size()) {
    fail(line, fmt::format("{} values cannot be given to {} names", items->size(), targets.size()));
  }
  for (std::size_t i = 0; i < targets.size(); ++i) assign(targets[i], (*items)[i], scope, line);
}

void Interpreter::assign(const std::string& target, Value value, const ScopePtr& scope, int line) {
  const std::size_t dot = target.find('.');
  if (dot == std::string::npos) return scope->set(target, std::move(value));
  const std::string object_name = target.substr(0, dot);
  const Value* object = scope->find(object_name);
  Dict* dict = object == nullptr ? nullptr : object->dict();
  if (dict == nullptr || !dict->is_namespace) {
    fail(line, fmt::format("{} is not a namespace(), so {} cannot be set", object_name, target));
  }
  if (target[dot + 1] == '_')
    fail(line, fmt::format("{} begins with an underscore, which is not allowed", target));
  dict->set(target.substr(dot + 1), std::move(value));
}

Value Interpreter::evaluate(const Expression& node, const ScopePtr& scope) {
  const Level level(*this, node.line);
  step();
  return evaluate_here(node, scope);
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
      return get_attribute(*this, evaluate(*node.args[0], scope), node.text, node.line);
    case Kind::kItem:
      return get_item(*this, evaluate(*node.args[0], scope), evaluate(*node.args[1], scope), node.line);
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
  const Value* value = scope->find(node.text);
  return value != nullptr ? *value : Value(Undefined{node.text});
}

Value Interpreter::list(const Expression& node, const ScopePtr& scope) {
  List items;
  items.is_tuple = node.text == "tuple";
  items.reserve(node.args.size());
  for (const auto& arg : node.args) items.push_back(evaluate(*arg, scope));
  return made(std::move(items));
}

Value Interpreter::dict(const Expression& node, const ScopePtr& scope) {
  auto dict = std::make_shared<Dict>();
  for (std::size_t i = 0; i + 1 < node.args.size(); i += 2) {
    const Value key = evaluate(*node.args[i], scope);
    if (key.text() == nullptr)
      fail(node.line, fmt::format("a {} as the key of a dict is not supported", key.type_name()));
    step(static_cast<std::int64_t>(dict->items.size()) / 16);
    dict->set(*key.text(), evaluate(*node.args[i + 1], scope));
  }
  return dict;
}

Value Interpreter::unary(const Expression& node, const ScopePtr& scope) {
  const Value value = evaluate(*node.args[0], scope);
  if (node.text == "not") return !value.truthy();
  return arithmetic(*this, node.text, Value(std::int64_t{0}), value, node.line);
}

Value Interpreter::binary(const Expression& node, const ScopePtr& scope) {
  Value left = evaluate(*node.args[0], scope);
  if (node.text == "and") return left.truthy() ? evaluate(*node.args[1], scope) : left;
  if (node.text == "or") return left.truthy() ? left : evaluate(*node.args[1], scope);
  const Value right = evaluate(*node.args[1], scope);
  if (node.text == "~") {
    std::string joined = left.str() + right.str();
    expect_room(node.line, 1, joined.size());
    return made(std::move(joined));
  }
  return arithmetic(*this, node.text, left, right, node.line);
}

Value Interpreter::compare(const Expression& node, const ScopePtr& scope) {
  Value left = evaluate(*node.args[0], scope);
  for (std::size_t i = 0; i < node.names.size(); ++i) {
    Value right = evaluate(*node.args[i + 1], scope);
    if (!compares(*this, node.names[i], left, right, node.line)) return false;
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
    if (!value.integer(bounds[i]))
      fail(node.line, fmt::format("a {} is not the bound of a slice", value.type_name()));
  }
  if (bounds[2] == 0) fail(node.line, "the step of a slice is 0");
  const std::string* text = object.text();
  if (text == nullptr && object.list() == nullptr) {
    fail(node.line, fmt::format("a {} cannot be sliced", object.type_name()));
  }
  const auto parts = text != nullptr ? characters(*text) : std::vector<std::string_view>{};
  const auto size = static_cast<std::int64_t>(text != nullptr ? parts.size() : object.list()->size());
  step(size / 8);
  const bool back = bounds[2] < 0;
  const auto bound = [&](std::size_t i, std::int64_t fallback) {
    if (!given[i]) return fallback;
    const std::int64_t low = back ? -1 : 0;
    return std::clamp(bounds[i] < 0 ? bounds[i] + size : bounds[i], low, back ? size - 1 : size);
  };
  const std::int64_t begin = bound(0, back ? size - 1 : 0);
  const std::int64_t end = bound(1, back ? -1 : size);
  std::string characters_out;
  List items;
  items.is_tuple = text == nullptr && object.list()->is_tuple;
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
  const Callable* callable = function.callable();
  if (callable == nullptr) {
    const auto* undefined = function.as<Undefined>();
    fail(node.line, undefined != nullptr ? fmt::format("{} is not defined or not supported by tte",
                                                       base::printable(undefined->name))
                                         : fmt::format("a {} cannot be called", function.type_name()));
  }
  return callable->call(*this, arguments(node, scope), node.line);
}

Value Interpreter::filter(const Expression& node, const ScopePtr& scope, const Value* input) {
  // default() is there for what is not defined; every filter gets its input as it is.
  Value value;
  const Expression* inner = node.args[0].get();
  if (inner == nullptr) {
    if (input == nullptr) fail(node.line, "a filter has no input");
    value = *input;
  } else {
    value = input != nullptr && inner->kind == Expression::Kind::kFilter ? filter(*inner, scope, input)
                                                                         : evaluate(*inner, scope);
  }
  return call_filter(*this, node.text, value, arguments(node, scope), node.line);
}

Value Interpreter::test(const Expression& node, const ScopePtr& scope) {
  return call_test(*this, node.text, evaluate(*node.args[0], scope), arguments(node, scope), node.line);
}

}  // namespace tte::text::jinja
