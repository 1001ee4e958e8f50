// The tree of a parsed template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace tte::text::jinja {

struct Builtin;
struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Expression {
  enum class Kind {
    kConstant,   // value
    kName,       // text
    kLoop,       // loop.text; whether there is a loop if text is empty
    kList,       // args; a tuple if text is "tuple"
    kDict,       // args: key, value, key, value, ...
    kUnary,      // text: "-", "+", "not"; args[0]
    kBinary,     // text: the operator, "and" and "or" included; args[0], args[1]
    kCompare,    // args[0], then one of args per entry of names ("==", "in", "not in", ...)
    kCondition,  // args: value, test, otherwise (may be null)
    kAttribute,  // args[0].text
    kItem,       // args[0][args[1]]
    kSlice,      // args[0][args[1]:args[2]:args[3]], null where left out
    kCall,       // args[0](rest, named), args[0] a kName
    kMethod,     // args[0].text(rest, named)
    kFilter,     // args[0] | text(rest, named)
    kTest,       // args[0] is text(rest, named)
  };
  Kind kind = Kind::kConstant;
  int line = 1;
  int depth = 1;  // The tree below has at most kMaxTreeDepth.
  std::string text;
  Value value;
  const Builtin* builtin = nullptr;  // For kMethod, kFilter and kTest; null if tte has none of that name.
  std::vector<ExpressionPtr> args;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> names;
};

struct Statement;
using Body = std::vector<std::unique_ptr<const Statement>>;

struct Statement {
  enum class Kind {
    kData,      // text
    kOutput,    // value
    kIf,        // branches: (test, body), the test of else is null
    kFor,       // targets in value, body, otherwise; filter
    kSet,       // targets[0] = value
    kSetBlock,  // targets[0], body
    kMacro,     // text(targets = defaults), body
    kScope,     // body in a scope of its own ({% generation %})
    kBreak,
    kContinue,
    kUnsupported,  // text
  };
  Kind kind = Kind::kData;
  int line = 1;
  std::string text;
  ExpressionPtr value;
  ExpressionPtr filter;
  std::vector<std::string> targets;  // "namespace.attribute" or a name; of kMacro the parameters.
  std::vector<ExpressionPtr> defaults;
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body body;
  Body otherwise;
};

inline constexpr int kMaxTreeDepth = 200;

// Throws ModelError naming `name` and line. What is not supported is an error here, unless it stands in a branch or a
// macro, which may never run.
Body parse(std::string_view source, const std::string& name);

// The constant strings and the text between tags, joined by NUL so that nothing matches across two of them.
std::string literal_text(const Body& body);

}  // namespace tte::text::jinja
