#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "base/printable.h"
#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

using Kind = Token::Kind;
using Node = std::unique_ptr<Expression>;

// Expressions, by precedence: condition, or, and, not, comparison, + and -, ~, the rest of arithmetic, unary.
class ExpressionParser {
 public:
  ExpressionParser(std::string_view source, const std::string& name)
      : name_(name), tokens_(tokenize(source, name)) {}

 protected:
  // Counts how deep the parser is in itself.
  struct Level {
    explicit Level(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.level_ > kMaxTreeDepth)
        parser_.fail(fmt::format("it nests deeper than {} levels", kMaxTreeDepth));
    }
    ~Level() { --parser_.level_; }
    ExpressionParser& parser_;
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw ModelError(fmt::format("{}, line {}: {}.", name_, current().line, what));
  }
  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  [[nodiscard]] static std::string shown(const Token& token) {
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
  [[nodiscard]] bool is_op(std::string_view text) const {
    return current().kind == Kind::kOperator && current().text == text;
  }
  [[nodiscard]] bool is_name(std::string_view text) const {
    return current().kind == Kind::kName && current().text == text;
  }
  bool take_op(std::string_view text) { return is_op(text) && (++at_, true); }
  bool take_name(std::string_view text) { return is_name(text) && (++at_, true); }
  void expect_op(std::string_view text) {
    if (!take_op(text)) fail(fmt::format("\"{}\" is expected before {}", text, shown(current())));
  }
  std::string expect_identifier() {
    if (current().kind != Kind::kName) fail(fmt::format("a name is expected before {}", shown(current())));
    return tokens_[at_++].text;
  }

  [[nodiscard]] Node make(Expression::Kind kind, std::string text = {}) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = current().line;
    node->text = std::move(text);
    return node;
  }
  void add(Expression& parent, ExpressionPtr child) const {
    if (child != nullptr) {
      parent.depth = std::max(parent.depth, child->depth + 1);
      if (parent.depth > kMaxTreeDepth)
        fail(fmt::format("the expression nests deeper than {} levels", kMaxTreeDepth));
    }
    parent.args.push_back(std::move(child));
  }
  [[nodiscard]] Node constant(Value value) const {
    Node node = make(Expression::Kind::kConstant);
    node->value = std::move(value);
    return node;
  }

  // `a, b` without brackets makes a list, where `with_tuple`.
  Node expression(bool with_tuple = false, bool with_condition = true) {
    const Level level(*this);
    Node first = with_condition ? condition() : either();
    if (!with_tuple || !is_op(",")) return first;
    Node list = make(Expression::Kind::kList);
    add(*list, std::move(first));
    while (take_op(",")) {
      if (ends_tuple()) break;
      add(*list, with_condition ? condition() : either());
    }
    return list;
  }

  Node filters(Node node) {
    while (is_op("|")) {
      ++at_;
      node = filter(std::move(node));
    }
    return node;
  }

  // A filter after its "|"; `input` may be null.
  Node filter(Node input) {
    Node node = make(Expression::Kind::kFilter);
    node->text = expect_identifier();
    while (take_op(".")) node->text += "." + expect_identifier();
    add(*node, std::move(input));
    if (take_op("(")) arguments(*node);
    return node;
  }

  std::size_t at_ = 0;
  const std::string& name_;
  std::vector<Token> tokens_;
  int level_ = 0;

 private:
  [[nodiscard]] bool ends_tuple() const {
    return current().kind == Kind::kBlockEnd || current().kind == Kind::kVariableEnd || is_op(")") ||
           is_name("in");
  }

  Node condition() {
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
  Node binary(std::initializer_list<std::string_view> operators, Operand operand) {
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

  Node either() {
    return binary({"or"}, [&] { return binary({"and"}, [&] { return negation(); }); });
  }

  Node negation() {
    if (!is_name("not")) return comparison();
    const Level level(*this);
    Node node = make(Expression::Kind::kUnary, "not");
    ++at_;
    add(*node, negation());
    return node;
  }

  // The comparison operator at the current token, which moves past it; empty if there is none.
  std::string comparator() {
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

  Node comparison() {
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

  Node sum() {
    return binary({"+", "-"}, [&] {
      return binary({"~"}, [&] {
        return binary({"*", "//", "/", "%"}, [&] { return binary({"**"}, [&] { return unary(true); }); });
      });
    });
  }

  Node unary(bool with_filter) {
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

  Node primary() {
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

  Node name() {
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

  Node parenthesis() {
    if (take_op(")")) return make(Expression::Kind::kList);
    Node node = expression(true);
    expect_op(")");
    return node;
  }

  Node list() {
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

  Node dict() {
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

  Node postfix(Node node) {
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

  Node call(Node function) {
    Node node = make(Expression::Kind::kCall);
    add(*node, std::move(function));
    arguments(*node);
    return node;
  }

  Node subscript(Node object) {
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
    expect_op("]");
    return node;
  }

  // The arguments of a call after its "(".
  void arguments(Expression& call) {
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

  Node filters_and_tests(Node node) {
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

  [[nodiscard]] bool starts_test_argument() const {
    switch (current().kind) {
      case Kind::kName: {
        static constexpr std::array<std::string_view, 6> kNot = {"else", "or", "and", "is", "if", "in"};
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

  Node test(Node input) {
    ++at_;
    const bool negated = take_name("not");
    Node node = make(Expression::Kind::kTest);
    node->text = expect_identifier();
    add(*node, std::move(input));
    if (take_op("(")) {
      arguments(*node);
    } else if (starts_test_argument()) {
      add(*node, postfix(primary()));
    }
    if (!negated) return node;
    Node inverse = make(Expression::Kind::kUnary, "not");
    add(*inverse, std::move(node));
    return inverse;
  }
};

// Statements.
class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body run() {
    Body all = body({});
    if (current().kind != Kind::kEnd) fail(fmt::format("unexpected {}", shown(current())));
    return all;
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  // Statements up to a tag with one of the names `ends`, which stays (its "{%" is taken).
  Body body(Ends ends) {
    const Level level(*this);
    Body out;
    while (true) {
      if (current().kind == Kind::kEnd) {
        if (ends.size() != 0) fail(fmt::format("{{% {} %}} is missing", *(ends.end() - 1)));
        return out;
      }
      auto node = std::make_unique<Statement>();
      node->line = current().line;
      if (current().kind == Kind::kData) {
        node->text = tokens_[at_++].text;
      } else if (current().kind == Kind::kVariableBegin) {
        ++at_;
        node->kind = Statement::Kind::kOutput;
        node->value = expression(true);
        expect(Kind::kVariableEnd);
      } else {
        expect(Kind::kBlockBegin);
        if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return is_name(end); }))
          return out;
        statement(*node);
      }
      out.push_back(std::move(node));
    }
  }

  void expect(Kind kind) {
    if (current().kind != kind) fail(fmt::format("unexpected {}", shown(current())));
    ++at_;
  }
  void end_tag() { expect(Kind::kBlockEnd); }
  // The rest of a block: its statements and its closing tag.
  Body body_and_end(std::string_view end) {
    end_tag();
    Body out = body({end});
    ++at_;
    end_tag();
    return out;
  }

  void statement(Statement& node) {
    const std::string name = expect_identifier();
    if (name == "if") return if_statement(node);
    if (name == "for") return for_statement(node);
    if (name == "set") return set_statement(node);
    if (name == "macro") return macro_statement(node);
    if (name == "with") return with_statement(node);
    if (name == "filter") {
      node.kind = Statement::Kind::kFilter;
      node.filter = filters(filter(nullptr));
      node.body = body_and_end("endfilter");
    } else if (name == "generation") {
      node.kind = Statement::Kind::kScope;
      node.body = body_and_end("endgeneration");
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(fmt::format("{{% {} %}} is outside of a loop", name));
      node.kind = name == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      end_tag();
    } else {
      fail(fmt::format("the tag {{% {} %}} is not supported by tte, or has no beginning",
                       base::printable(name, 40)));
    }
  }

  void if_statement(Statement& node) {
    node.kind = Statement::Kind::kIf;
    while (true) {
      ExpressionPtr test = expression(true);
      end_tag();
      Body then = body({"elif", "else", "endif"});
      node.branches.emplace_back(std::move(test), std::move(then));
      if (take_name("elif")) continue;
      if (take_name("else")) {
        end_tag();
        node.branches.emplace_back(nullptr, body({"endif"}));
      }
      ++at_;
      return end_tag();
    }
  }

  void for_statement(Statement& node) {
    node.kind = Statement::Kind::kFor;
    node.targets = targets(false);
    if (!take_name("in")) fail(fmt::format("\"in\" is expected before {}", shown(current())));
    node.value = expression(true, false);
    if (take_name("if")) node.filter = expression();
    if (is_name("recursive")) fail("recursive loops are not supported by tte");
    end_tag();
    ++loops_;
    node.body = body({"else", "endfor"});
    --loops_;
    if (take_name("else")) {
      end_tag();
      node.otherwise = body({"endfor"});
    }
    ++at_;
    end_tag();
  }

  // Names that are assigned to, in brackets or not.
  std::vector<std::string> targets(bool with_namespace) {
    std::vector<std::string> out;
    const bool brackets = take_op("(");
    do {
      if (is_name("in") || is_op("=") || is_op(")")) break;
      std::string name = expect_identifier();
      if (with_namespace && take_op(".")) name += "." + expect_identifier();
      out.push_back(std::move(name));
    } while (take_op(","));
    if (brackets) expect_op(")");
    if (out.empty()) fail("a name to assign to is missing");
    return out;
  }

  void set_statement(Statement& node) {
    node.targets = targets(true);
    if (take_op("=")) {
      node.kind = Statement::Kind::kSet;
      node.value = expression(true);
      return end_tag();
    }
    if (node.targets.size() != 1) fail("only one name can be set to a block");
    node.kind = Statement::Kind::kSetBlock;
    if (take_op("|")) node.filter = filters(filter(nullptr));
    node.body = body_and_end("endset");
  }

  void macro_statement(Statement& node) {
    node.kind = Statement::Kind::kMacro;
    node.text = expect_identifier();
    expect_op("(");
    while (!take_op(")")) {
      if (!node.targets.empty()) expect_op(",");
      node.targets.push_back(expect_identifier());
      ExpressionPtr fallback = take_op("=") ? expression() : nullptr;
      if (fallback == nullptr && !node.defaults.empty() && node.defaults.back() != nullptr) {
        fail("a parameter without default follows one with a default");
      }
      node.defaults.push_back(std::move(fallback));
    }
    const int loops = std::exchange(loops_, 0);
    node.body = body_and_end("endmacro");
    loops_ = loops;
  }

  void with_statement(Statement& node) {
    node.kind = Statement::Kind::kWith;
    while (current().kind != Kind::kBlockEnd) {
      if (!node.targets.empty()) expect_op(",");
      node.targets.push_back(expect_identifier());
      expect_op("=");
      node.defaults.push_back(expression());
    }
    node.body = body_and_end("endwith");
  }

  int loops_ = 0;
};

void literals_of(const Expression* node, std::string& out) {
  if (node == nullptr) return;
  if (node->kind == Expression::Kind::kConstant && node->value.text() != nullptr) {
    out.append(*node->value.text()).push_back('\0');
  }
  for (const auto& arg : node->args) literals_of(arg.get(), out);
  for (const auto& [name, arg] : node->named) literals_of(arg.get(), out);
}

void literals_of(const Body& body, std::string& out) {
  for (const auto& node : body) {
    if (node->kind == Statement::Kind::kData) out.append(node->text).push_back('\0');
    literals_of(node->value.get(), out);
    literals_of(node->filter.get(), out);
    for (const auto& expression : node->defaults) literals_of(expression.get(), out);
    for (const auto& [test, then] : node->branches) {
      literals_of(test.get(), out);
      literals_of(then, out);
    }
    literals_of(node->body, out);
    literals_of(node->otherwise, out);
  }
}

}  // namespace

Body parse(std::string_view source, const std::string& name) {
  return Parser(source, name).run();
}

std::string literal_text(const Body& body) {
  std::string out;
  literals_of(body, out);
  return out;
}

}  // namespace tte::text::jinja
