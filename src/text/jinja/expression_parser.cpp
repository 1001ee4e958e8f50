#include "text/jinja/expression_parser.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/printable.h"
#include "base/stack.h"
#include "tte/error.h"

namespace tte::text::jinja {

ExpressionParser::ExpressionParser(std::string_view source, const std::string& name)
    : name_(name), tokens_(tokenize(source, name)) {}

ExpressionParser::Level::Level(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.level_ <= kMaxTreeDepth && base::stack_left() >= base::kStackReserve) return;
  parser_.fail(fmt::format("it nests too deep ({} levels) for the stack", parser_.level_));
}

void ExpressionParser::fail(const std::string& what) const {
  throw ModelError(fmt::format("{}, line {}: {}.", base::printable(name_, 200), current().line, what));
}

std::string ExpressionParser::shown(const Token& token) {
  switch (token.kind) {
    case Kind::kEnd:
      return "the end of the template";
    case Kind::kBlockEnd:
      return "\"%}\"";
    case Kind::kVariableEnd:
      return "\"}}\"";
    default:
      return fmt::format("\"{}\"", base::printable(token.text, 40));
  }
}

bool ExpressionParser::is_op(std::string_view text) const {
  return current().kind == Kind::kOperator && current().text == text;
}

bool ExpressionParser::is_name(std::string_view text) const {
  return current().kind == Kind::kName && current().text == text;
}

void ExpressionParser::expect_op(std::string_view text) {
  if (!take_op(text)) fail(fmt::format("\"{}\" is expected before {}", text, shown(current())));
}

std::string ExpressionParser::expect_identifier() {
  if (current().kind != Kind::kName) fail(fmt::format("a name is expected before {}", shown(current())));
  return tokens_[at_++].text;
}

ExpressionParser::Node ExpressionParser::make(Expression::Kind kind, std::string text) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = current().line;
  node->text = std::move(text);
  return node;
}

void ExpressionParser::add(Expression& parent, ExpressionPtr child) const {
  if (child != nullptr) {
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMaxTreeDepth)
      fail(fmt::format("the expression nests deeper than {} levels", kMaxTreeDepth));
  }
  parent.args.push_back(std::move(child));
}

ExpressionParser::Node ExpressionParser::constant(Value value) const {
  Node node = make(Expression::Kind::kConstant);
  node->value = std::move(value);
  return node;
}

ExpressionParser::Node ExpressionParser::expression(bool with_tuple, bool with_condition) {
  const Level level(*this);
  Node first = with_condition ? condition() : either();
  if (!with_tuple || !is_op(",")) return first;
  Node list = make(Expression::Kind::kList, "tuple");
  add(*list, std::move(first));
  while (take_op(",")) {
    if (ends_tuple()) break;
    add(*list, with_condition ? condition() : either());
  }
  return list;
}

ExpressionParser::Node ExpressionParser::filters(Node node) {
  while (is_op("|")) {
    ++at_;
    node = filter(std::move(node));
  }
  return node;
}

ExpressionParser::Node ExpressionParser::filter(Node input) {
  Node node = make(Expression::Kind::kFilter);
  node->text = expect_identifier();
  while (take_op(".")) node->text.append(1, '.').append(expect_identifier());
  add(*node, std::move(input));
  if (take_op("(")) arguments(*node);
  return node;
}

bool ExpressionParser::ends_tuple() const {
  return current().kind == Kind::kBlockEnd || current().kind == Kind::kVariableEnd || is_op(")") ||
         is_name("in");
}

ExpressionParser::Node ExpressionParser::condition() {
  Node node = either();
  while (take_name("if")) {
    Node choice = make(Expression::Kind::kCondition);
    add(*choice, std::move(node));
    add(*choice, either());
    add(*choice, take_name("else") ? expression() : nullptr);
    node = std::move(choice);
  }
  return node;
}

template <typename Operand>
ExpressionParser::Node ExpressionParser::binary(std::initializer_list<std::string_view> operators,
                                                Operand operand) {
  Node left = operand();
  while (true) {
    const auto known = std::find_if(operators.begin(), operators.end(), [&](std::string_view text) {
      return text == "and" || text == "or" ? is_name(text) : is_op(text);
    });
    if (known == operators.end()) return left;
    Node node = make(Expression::Kind::kBinary, std::string(*known));
    ++at_;
    add(*node, std::move(left));
    add(*node, operand());
    left = std::move(node);
  }
}

ExpressionParser::Node ExpressionParser::either() {
  return binary({"or"}, [&] { return binary({"and"}, [&] { return negation(); }); });
}

ExpressionParser::Node ExpressionParser::negation() {
  if (!is_name("not")) return comparison();
  const Level level(*this);
  Node node = make(Expression::Kind::kUnary, "not");
  ++at_;
  add(*node, negation());
  return node;
}

std::string ExpressionParser::comparator() {
  for (const std::string_view text : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (take_op(text)) return std::string(text);
  }
  if (take_name("in")) return "in";
  if (is_name("not") && peek().kind == Kind::kName && peek().text == "in") {
    at_ += 2;
    return "not in";
  }
  return {};
}

ExpressionParser::Node ExpressionParser::comparison() {
  Node left = sum();
  Node chain;
  for (std::string op = comparator(); !op.empty(); op = comparator()) {
    if (chain == nullptr) {
      chain = make(Expression::Kind::kCompare);
      add(*chain, std::move(left));
    }
    chain->names.push_back(std::move(op));
    add(*chain, sum());
  }
  return chain == nullptr ? std::move(left) : std::move(chain);
}

ExpressionParser::Node ExpressionParser::sum() {
  return binary({"+", "-"}, [&] {
    return binary({"~"}, [&] {
      return binary({"*", "//", "/", "%"}, [&] { return binary({"**"}, [&] { return unary(true); }); });
    });
  });
}

ExpressionParser::Node ExpressionParser::unary(bool with_filter) {
  const Level level(*this);
  Node node;
  if (is_op("-") || is_op("+")) {
    node = make(Expression::Kind::kUnary, current().text);
    ++at_;
    add(*node, unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filter ? filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionParser::Node ExpressionParser::primary() {
  const Token& token = current();
  switch (token.kind) {
    case Kind::kName:
      return name();
    case Kind::kString: {
      std::string text;
      while (current().kind == Kind::kString) text += tokens_[at_++].text;
      return constant(text);
    }
    case Kind::kInteger: {
      std::int64_t value = 0;
      const char* end = token.text.data() + token.text.size();
      if (std::from_chars(token.text.data(), end, value).ptr != end || token.text.size() > 18) {
        fail(fmt::format("the number {} is too large", base::printable(token.text, 40)));
      }
      ++at_;
      return constant(value);
    }
    case Kind::kFloat: {
      double value = 0;
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      ++at_;
      return constant(value);
    }
    default:
      break;
  }
  if (take_op("(")) return parenthesis();
  if (take_op("[")) return list();
  if (take_op("{")) return dict();
  fail(fmt::format("an expression is expected before {}", shown(token)));
}

ExpressionParser::Node ExpressionParser::name() {
  const std::string& text = current().text;
  Node node;
  if (text == "true" || text == "True") {
    node = constant(true);
  } else if (text == "false" || text == "False") {
    node = constant(false);
  } else if (text == "none" || text == "None") {
    node = constant(None{});
  } else {
    node = make(Expression::Kind::kName, text);
  }
  ++at_;
  return node;
}

ExpressionParser::Node ExpressionParser::parenthesis() {
  if (take_op(")")) return make(Expression::Kind::kList, "tuple");
  Node node = expression(true);
  expect_op(")");
  return node;
}

ExpressionParser::Node ExpressionParser::list() {
  Node node = make(Expression::Kind::kList);
  while (!take_op("]")) {
    if (!node->args.empty()) {
      expect_op(",");
      if (take_op("]")) break;
    }
    add(*node, expression());
  }
  return node;
}

ExpressionParser::Node ExpressionParser::dict() {
  Node node = make(Expression::Kind::kDict);
  while (!take_op("}")) {
    if (!node->args.empty()) {
      expect_op(",");
      if (take_op("}")) break;
    }
    add(*node, expression());
    expect_op(":");
    add(*node, expression());
  }
  return node;
}

ExpressionParser::Node ExpressionParser::postfix(Node node) {
  while (true) {
    if (take_op(".")) {
      if (current().kind == Kind::kInteger) {
        Node item = make(Expression::Kind::kItem);
        add(*item, std::move(node));
        add(*item, primary());
        node = std::move(item);
        continue;
      }
      Node attribute = make(Expression::Kind::kAttribute, expect_identifier());
      add(*attribute, std::move(node));
      node = std::move(attribute);
    } else if (take_op("[")) {
      node = subscript(std::move(node));
    } else if (take_op("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionParser::Node ExpressionParser::call(Node function) {
  Node node = make(Expression::Kind::kCall);
  add(*node, std::move(function));
  arguments(*node);
  return node;
}

ExpressionParser::Node ExpressionParser::subscript(Node object) {
  Node node = make(Expression::Kind::kItem);
  add(*node, std::move(object));
  Node start = is_op(":") ? nullptr : expression();
  if (is_op(":")) {
    node->kind = Expression::Kind::kSlice;
    add(*node, std::move(start));
    for (int i = 0; i < 2; ++i) {
      const bool there = take_op(":");
      add(*node, !there || is_op(":") || is_op("]") ? nullptr : expression());
    }
  } else {
    add(*node, std::move(start));
  }
  if (is_op(",")) fail("a tuple in brackets is not supported by tte");
  expect_op("]");
  return node;
}

void ExpressionParser::arguments(Expression& call) {
  bool first = true;
  while (!take_op(")")) {
    if (!first) {
      expect_op(",");
      if (take_op(")")) break;
    }
    first = false;
    if (is_op("*") || is_op("**")) fail("\"*\" in front of an argument is not supported by tte");
    if (current().kind == Kind::kName && peek().kind == Kind::kOperator && peek().text == "=") {
      std::string name = expect_identifier();
      ++at_;
      Node value = expression();
      call.depth = std::max(call.depth, value->depth + 1);
      call.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!call.named.empty()) fail("a positional argument follows a named one");
      add(call, expression());
    }
  }
}

ExpressionParser::Node ExpressionParser::filters_and_tests(Node node) {
  while (true) {
    if (is_op("|")) {
      ++at_;
      node = filter(std::move(node));
    } else if (is_name("is")) {
      node = test(std::move(node));
    } else if (take_op("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

bool ExpressionParser::starts_test_argument() const {
  switch (current().kind) {
    case Kind::kName: {
      static constexpr std::array<std::string_view, 4> kNot = {"else", "or", "and", "is"};
      return std::find(kNot.begin(), kNot.end(), current().text) == kNot.end();
    }
    case Kind::kString:
    case Kind::kInteger:
    case Kind::kFloat:
      return true;
    default:
      return is_op("[") || is_op("{");
  }
}

ExpressionParser::Node ExpressionParser::test(Node input) {
  ++at_;
  const bool negated = take_name("not");
  Node node = make(Expression::Kind::kTest);
  node->text = expect_identifier();
  add(*node, std::move(input));
  if (take_op("(")) {
    arguments(*node);
  } else if (is_name("is")) {
    fail("tests cannot be chained with \"is\"");
  } else if (starts_test_argument()) {
    add(*node, postfix(primary()));
  }
  if (!negated) return node;
  Node inverse = make(Expression::Kind::kUnary, "not");
  add(*inverse, std::move(node));
  return inverse;
}

}  // namespace tte::text::jinja
