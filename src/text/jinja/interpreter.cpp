#include "text/jinja/interpreter.h"

#include <algorithm>

#include "base/printable.h"
#include "base/stack.h"
#include "base/utf8.h"
#include "text/jinja/builtins.h"

namespace tte::text::jinja {

const std::optional<Value>& Loop::peek() {
  for (; !after && position < items.size(); ++position) {
    if (!keeps || keeps(items[position])) after = items[position];
  }
  return after;
}

bool Loop::advance() {
  if (!peek()) return false;
  ++index;
  before = std::exchange(current, *std::exchange(after, std::nullopt));
  return true;
}

Interpreter::Interpreter(const std::vector<std::pair<std::string, Value>>& globals) {
  for (const auto& [key, value] : global_functions()) globals_.variables.set(key, value);
  for (const auto& [key, value] : globals) globals_.variables.set(key, value);
}

Interpreter::~Interpreter() {
  for (const auto& names : namespaces_) names->items.clear();
}

std::string Interpreter::run(const Body& body) {
  execute(body);
  return std::move(out_);
}

template <typename Action>
void Interpreter::in_scope(Scope scope, Action action) {
  Scope* const before = std::exchange(scope_, &scope);
  action();
  scope_ = before;
}

const Value* Interpreter::find(std::string_view name) {
  const Value* value = nullptr;
  std::size_t scopes = 0;
  for (const Scope* scope = scope_; scope != nullptr && value == nullptr; scope = scope->parent, ++scopes) {
    value = scope->variables.find(name);
  }
  budget.work(scopes, 8);
  return value;
}

Value Interpreter::made(std::string text) {
  budget.spend(1, text.size() + 64);
  return text;
}

Value Interpreter::made(List list) {
  budget.spend(list.size() + 1, sizeof(Value));
  return list;
}

std::shared_ptr<Namespace> Interpreter::make_namespace() {
  budget.spend(1, 2 * sizeof(Namespace));
  return namespaces_.emplace_back(std::make_shared<Namespace>());
}

List Interpreter::items_of(const Value& value) {
  List out;
  if (const List* list = value.list()) {
    budget.spend(list->size(), sizeof(Value));
    out.assign(list->begin(), list->end());
  } else if (const std::string* text = value.text()) {
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t begin = at;
      base::next_code_point(*text, at);
      budget.spend(1, sizeof(Value));
      out.push_back(made(text->substr(begin, at - begin)));
    }
  } else if (const Dict* dict = value.dict()) {
    for (const auto& [key, unused] : dict->items) out.push_back(made(key));
  } else if (!value.is_undefined()) {
    refuse("going over a {}", value.type_name());
  }
  budget.step(static_cast<std::int64_t>(out.size()));
  return out;
}

void Interpreter::execute(const Body& body) {
  for (const Expression statement : body) {
    evaluate(statement);
    if (flow != Flow::kNormal) return;
  }
}

void Interpreter::execute(const ForLoop& node) {
  Loop loop;
  loop.items = items_of(evaluate(node.items));
  const auto with_item = [this, &node, outside = scope_](const Value& item, Loop* of, auto action) {
    in_scope({outside, of, {}}, [&] {
      assign_all(node.targets, item);
      action();
    });
  };
  if (node.condition != nullptr) {
    loop.keeps = [&](const Value& item) {
      bool keeps = false;
      with_item(item, nullptr, [&] { keeps = evaluate(node.condition).truthy(); });
      return keeps;
    };
  }
  while (flow != Flow::kBreak && loop.advance()) {
    flow = Flow::kNormal;
    with_item(loop.current, &loop, [&] { execute(node.body); });
  }
  flow = Flow::kNormal;
}

std::string Interpreter::written_by(const Body& body) {
  std::string before = std::exchange(out_, {});
  in_scope({scope_, nullptr, {}}, [&] { execute(body); });
  return std::exchange(out_, std::move(before));
}

void Interpreter::define(const Macro& macro) {
  budget.spend(1, sizeof(Function));
  const auto call = [&macro](Interpreter& run, const Arguments& given) {
    return run.call_macro(macro, given);
  };
  assign(macro.name, std::make_shared<const Function>(Function{call}));
}

Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments) {
  const auto& names = macro.parameters;
  const auto given =
      bind(budget, "macro " + base::printable(macro.name, 60), {names.begin(), names.end()}, arguments);
  std::string text;
  in_scope({&globals_, nullptr, {}}, [&] {
    for (std::size_t i = 0; i < names.size(); ++i) {
      assign(names[i], given[i] != nullptr ? *given[i] : Undefined{names[i]});
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (given[i] == nullptr && macro.defaults[i] != nullptr) {
        assign(names[i], evaluate(macro.defaults[i]));
      }
    }
    text = written_by(macro.body);
  });
  return made(std::move(text));
}

void Interpreter::assign_all(const std::vector<std::string>& targets, const Value& value) {
  if (targets.size() == 1) return assign(targets.front(), value);
  const List items = items_of(value);
  if (items.size() != targets.size())
    fail("{} values cannot be given to {} names", items.size(), targets.size());
  for (std::size_t i = 0; i < targets.size(); ++i) assign(targets[i], items[i]);
}

void Interpreter::assign(const std::string& target, Value value) {
  kept(value);
  const std::size_t dot = target.find('.');
  if (dot == std::string::npos) return put(budget, scope_->variables, target, std::move(value));
  const std::string object_name = target.substr(0, dot);
  const Value* object = find(object_name);
  Namespace* names = object == nullptr ? nullptr : object->names();
  if (names == nullptr) {
    fail("{} is not a namespace(), so {} cannot be set", base::printable(object_name, 60),
         base::printable(target, 60));
  }
  put(budget, *names, target.substr(dot + 1), std::move(value));
}

Value Interpreter::evaluate(Expression node) {
  if (depth_ >= kMaxDepth || base::stack_left() < base::kStackReserve) {
    fail("it calls itself too deep ({} levels) for the stack", depth_);
  }
  budget.step();
  ++depth_;
  const int line = std::exchange(line_, node->line);  // It stays where a failure happens.
  Value value = node->evaluate(*this);
  line_ = line;
  --depth_;
  return value;
}

Value Interpreter::name(const std::string& name) {
  if (const Value* value = find(name)) return *value;
  static constexpr std::string_view kOfJinja = " cycler dict joiner lipsum self super caller varargs kwargs ";
  if (kOfJinja.find(fmt::format(" {} ", name)) != std::string_view::npos) refuse("{}", name);
  return Undefined{name};
}

Loop& Interpreter::loop() {
  const Scope* at = scope_;
  while (at != nullptr && at->loop == nullptr) at = at->parent;
  if (at == nullptr) fail("loop is not defined");
  return *at->loop;
}

Arguments Interpreter::arguments(const CallArguments& given) {
  Arguments out;
  for (const Expression value : given.positional) out.positional.push_back(kept(evaluate(value)));
  for (const auto& [key, value] : given.named) out.named.emplace_back(key, kept(evaluate(value)));
  return out;
}

Value Interpreter::call(const std::string& called, const CallArguments& given) {
  const Value value = name(called);
  require_defined(value);
  const Function* function = value.function();
  if (function == nullptr) fail("a {} cannot be called", value.type_name());
  return function->call(*this, arguments(given));
}

std::vector<const Value*> bind(Budget& budget, const std::string& what,
                               const std::vector<std::string_view>& parameters, const Arguments& given) {
  if (given.positional.size() > parameters.size())
    refuse("{} with {} arguments", what, given.positional.size());
  budget.work((given.named.size() + 1) * parameters.size());
  std::vector<const Value*> out(parameters.size(), nullptr);
  for (std::size_t i = 0; i < given.positional.size(); ++i) out[i] = &given.positional[i];
  for (const auto& [key, value] : given.named) {
    const auto known = std::find(parameters.begin(), parameters.end(), key);
    const auto at = static_cast<std::size_t>(known - parameters.begin());
    if (at == out.size() || out[at] != nullptr)
      refuse("{} with an argument {}", what, base::printable(key, 60));
    out[at] = &value;
  }
  return out;
}

void put(Budget& budget, Dict& dict, const std::string& key, Value value) {
  budget.spend(1, key.size() + 2 * sizeof(Value));
  dict.set(key, std::move(value));
}

}  // namespace tte::text::jinja
