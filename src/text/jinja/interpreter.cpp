#include "text/jinja/interpreter.h"

#include <algorithm>
#include <exception>

#include "base/printable.h"
#include "base/stack.h"
#include "text/jinja/builtins.h"
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

class Interpreter::Inside {
 public:
  Inside(Interpreter& run, std::shared_ptr<Scope> parent, std::shared_ptr<Loop> loop = nullptr)
      : run_(run), before_(run.scope_) {
    run_.scope_ = std::make_shared<Scope>(Scope{std::move(parent), std::move(loop), {}});
  }
  ~Inside() { run_.scope_ = std::move(before_); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Interpreter& run_;
  std::shared_ptr<Scope> before_;
};

Interpreter::Interpreter(const std::string& name, const std::vector<std::pair<std::string, Value>>& globals)
    : name_(name) {
  scope_->variables.items = global_functions();
  for (const auto& [key, value] : globals) scope_->variables.set(key, value);
}

const Value* Interpreter::find(std::string_view name) {
  const Value* value = nullptr;
  std::size_t names = 0;
  for (const Scope* scope = scope_.get(); scope != nullptr && value == nullptr; scope = scope->parent.get()) {
    value = scope->variables.find(name);
    names += 1 + scope->variables.items.size();
  }
  budget.work(names);
  return value;
}

void Interpreter::set(const std::string& name, Value value) {
  budget.work(scope_->variables.items.size());
  scope_->variables.set(name, std::move(value));
}

Interpreter::~Interpreter() {
  for (const auto& names : namespaces_) names->items.clear();
}

Value Interpreter::made(std::string text) {
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
    execute(body, out);
  } catch (const Failure& failure) {
    throw ModelError(fmt::format("{}, line {}: {}.", base::printable(name_, 200), line_, failure.what()));
  }
  return out;
}

void Interpreter::write(std::string& out, std::string_view text) {
  append(budget, out, text);
}

Flow Interpreter::execute(const Body& body, std::string& out) {
  for (const Statement& statement : *body) {
    const Level level(*this, statement.line);
    budget.step();
    if (const Flow flow = statement.execute(*this, out); flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Flow Interpreter::execute_inside(const Body& body, std::string& out) {
  const Inside inside(*this, scope_);
  return execute(body, out);
}

Flow Interpreter::execute(const ForLoop& node, std::string& out) {
  const auto loop = std::make_shared<Loop>();
  loop->rest = items_of(evaluate(node.items));
  if (node.condition != nullptr) {
    loop->keeps = [this, &node, outside = scope_](const Value& item) {
      const Inside inside(*this, outside);
      assign_all(node.targets, item);
      return evaluate(node.condition).truthy();
    };
  }
  while (loop->advance()) {
    const Inside inside(*this, scope_, loop);
    assign_all(node.targets, loop->current);
    if (execute(node.body, out) == Flow::kBreak) break;
  }
  return Flow::kNormal;
}

void Interpreter::define(const Macro& macro) {
  budget.take(1, sizeof(Function));
  set(macro.name, std::make_shared<const Function>(Function{nullptr, &macro}));
}

Value Interpreter::call_macro(const Function& function, const Arguments& arguments) {
  const Macro& macro = *function.macro;
  const auto& names = macro.parameters;
  const auto& given = arguments.positional;
  const auto refuse_call = [&](const std::string& what) {
    refuse(fmt::format("macro {} with {}", base::printable(macro.name, 60), what));
  };
  if (given.size() > names.size()) refuse_call(fmt::format("{} arguments", given.size()));
  const Inside inside(*this, globals_);
  Dict& variables = scope_->variables;
  budget.work((given.size() + arguments.named.size() + 1) * 2 * names.size());
  for (std::size_t i = 0; i < given.size(); ++i) variables.set(names[i], given[i]);
  for (const auto& [key, value] : arguments.named) {
    const bool known = std::find(names.begin(), names.end(), key) != names.end();
    if (!known || variables.find(key) != nullptr) refuse_call("an argument " + base::printable(key, 60));
    variables.set(key, value);
  }
  for (std::size_t i = given.size(); i < names.size(); ++i) {
    if (variables.find(names[i]) != nullptr) continue;
    set(names[i], macro.defaults[i] == nullptr ? Undefined{names[i]} : evaluate_to_keep(macro.defaults[i]));
  }
  std::string out;
  execute(macro.body, out);
  return made(std::move(out));
}

void Interpreter::assign_all(const std::vector<std::string>& targets, const Value& value) {
  if (targets.size() == 1) return assign(targets.front(), value);
  const List items = items_of(value);
  if (items.size() != targets.size()) {
    throw Failure(fmt::format("{} values cannot be given to {} names", items.size(), targets.size()));
  }
  for (std::size_t i = 0; i < targets.size(); ++i) assign(targets[i], items[i]);
}

void Interpreter::assign(const std::string& target, Value value) {
  refuse_to_keep(value);
  const std::size_t dot = target.find('.');
  if (dot == std::string::npos) return set(target, std::move(value));
  const std::string object_name = target.substr(0, dot);
  const Value* object = find(object_name);
  Namespace* names = object == nullptr ? nullptr : object->names();
  if (names == nullptr) {
    throw Failure(fmt::format("{} is not a namespace(), so {} cannot be set",
                              base::printable(object_name, 60), base::printable(target, 60)));
  }
  budget.step(1 + static_cast<std::int64_t>(names->items.size() / 16));
  names->set(target.substr(dot + 1), std::move(value));
}

Value Interpreter::evaluate(const Expression& node) {
  const Level level(*this, node->line);
  budget.step();
  return node->evaluate(*this);
}

Value Interpreter::evaluate_to_keep(const Expression& node) {
  Value value = evaluate(node);
  refuse_to_keep(value);
  return value;
}

Value Interpreter::name(const std::string& name) {
  if (const Value* value = find(name)) return *value;
  // What Jinja defines and tte does not.
  for (const std::string_view known :
       {"cycler", "dict", "joiner", "lipsum", "self", "super", "caller", "varargs", "kwargs"}) {
    if (name == known) refuse(name);
  }
  return Undefined{name};
}

Loop& Interpreter::loop() {
  const Scope* at = scope_.get();
  while (at != nullptr && at->loop == nullptr) at = at->parent.get();
  if (at == nullptr) fail_undefined({"loop"});
  return *at->loop;
}

Arguments Interpreter::arguments(const CallArguments& given) {
  Arguments out;
  const std::size_t positional = given.values.size() - given.names.size();
  for (std::size_t i = 0; i < given.values.size(); ++i) {
    Value value = evaluate_to_keep(given.values[i]);
    if (i < positional) {
      out.positional.push_back(std::move(value));
    } else {
      out.named.emplace_back(given.names[i - positional], std::move(value));
    }
  }
  return out;
}

Value Interpreter::call(const std::string& called, const CallArguments& given) {
  const Value value = name(called);
  if (const auto* undefined = value.as<Undefined>()) fail_undefined(*undefined);
  const Function* function = value.function();
  if (function == nullptr) throw Failure(fmt::format("a {} cannot be called", value.type_name()));
  return function->macro != nullptr ? call_macro(*function, arguments(given))
                                    : invoke(*this, *function->builtin, None{}, arguments(given));
}

}  // namespace tte::text::jinja
