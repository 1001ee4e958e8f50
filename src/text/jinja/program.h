// A template, compiled: its expressions and statements are functions of a run (interpreter.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace tte::text::jinja {

class Interpreter;

inline constexpr int kMaxTreeDepth = 200;

struct Node {
  int line = 1;
  int depth = 1;  // Levels of the tree that begins here: at most kMaxTreeDepth.
  std::function<Value(Interpreter&)> evaluate;
};
using Expression = std::shared_ptr<const Node>;

enum class Flow { kNormal, kBreak, kContinue };

struct Statement {
  int line = 1;
  std::function<Flow(Interpreter&, std::string& out)> execute;
};
using Body = std::shared_ptr<const std::vector<Statement>>;

// The arguments of a call; the last of `values` are those that `names` name.
struct CallArguments {
  std::vector<Expression> values;
  std::vector<std::string> names;
};

// {% for targets in items if condition %}
struct ForLoop {
  std::vector<std::string> targets;
  Expression items;
  Expression condition;  // May be null.
  Body body;
};

struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<Expression> defaults;  // One a parameter; null where there is none.
  Body body;
};

struct Program {
  Body body;
  // The constant strings and the text between tags, each ended by NUL so that nothing matches across two of them.
  std::string literals;
};

// Throws ModelError naming `name` and line. What is not supported is an error here, unless it stands in a branch or a
// macro, which may never run.
Program parse(std::string_view source, const std::string& name);

}  // namespace tte::text::jinja
