#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <utility>

#include "base/printable.h"
#include "base/stack.h"
#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/lexer.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

template <typename Range>
bool holds(const Range& range, std::string_view text) {
  return std::find(range.begin(), range.end(), text) != range.end();
}

class Parser {
 public:
  Parser(std::string_view source, const std::string& name) : name_(name), tokens_(tokenize(source, name)) {}

  Body run() {
    Body all = body({});
    if (!unsupported_.empty()) fail(unsupported_.front().second, unsupported_.front().first);
    return all;
  }

 private:
  using Kind = Token::Kind;
  using Node = std::unique_ptr<Expression>;
  using Ends = std::initializer_list<std::string_view>;

  // Counts how deep the parser is in itself.
  struct Level {
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.level_ <= kMaxTreeDepth && base::stack_left() >= base::kStackReserve) return;
      parser_.fail(fmt::format("it nests too deep ({} levels) for the stack", parser_.level_));
    }
    ~Level() { --parser_.level_; }
    Parser& parser_;
  };
  // What is not supported in what is parsed while this lives may never run: it is an error when it does.
  struct MayNeverRun {
    explicit MayNeverRun(Parser& parser) : parser_(parser), before_(parser.unsupported_.size()) {}
    ~MayNeverRun() { parser_.unsupported_.resize(before_); }
    Parser& parser_;
    std::size_t before_;
  };

  [[noreturn]] void fail(const std::string& what, int line = 0) const {
    throw ModelError(fmt::format("{}, line {}: {}.", base::printable(name_, 200),
                                 line == 0 ? current().line : line, what));
  }
  void note_unsupported(const std::string& what) {
    unsupported_.emplace_back(current().line, unsupported(what));
  }

  // Tokens.
  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  [[nodiscard]] std::string shown() const {
    switch (current().kind) {
      case Kind::kEnd:
        return "the end of the template";
      case Kind::kBlockEnd:
        return "\"%}\"";
      case Kind::kVariableEnd:
        return "\"}}\"";
      default:
        return fmt::format("\"{}\"", base::printable(current().text, 40));
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
  void expect(Kind kind) {
    if (current().kind != kind) fail(fmt::format("unexpected {}", shown()));
    ++at_;
  }
  void expect_op(std::string_view text) {
    if (!take_op(text)) fail(fmt::format("\"{}\" is expected before {}", text, shown()));
  }
  std::string expect_identifier() {
    if (current().kind != Kind::kName) fail(fmt::format("a name is expected before {}", shown()));
    return tokens_[at_++].text;
  }
  std::string expect_variable() {
    if (is_name("loop")) fail(unsupported("setting loop"));
    return expect_identifier();
  }

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
        if (current().kind == Kind::kName && holds(ends, current().text)) return out;
        statement(*node);
      }
      out.push_back(std::move(node));
    }
  }
  // The rest of a block: its statements and its closing tag.
  Body body_and_end(std::string_view end) {
    expect(Kind::kBlockEnd);
    Body out = body({end});
    ++at_;
    expect(Kind::kBlockEnd);
    return out;
  }

  void statement(Statement& node) {
    const std::string name = expect_identifier();
    if (name == "if") return if_statement(node);
    if (name == "for") return for_statement(node);
    if (name == "set") return set_statement(node);
    if (name == "macro") return macro_statement(node);
    if (name == "generation") {
      node.kind = Statement::Kind::kScope;
      const int loops = std::exchange(loops_, 0);
      node.body = body_and_end("endgeneration");
      loops_ = loops;
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(fmt::format("{{% {} %}} is outside of a loop", name));
      node.kind = name == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      expect(Kind::kBlockEnd);
    } else {
      other_statement(node, name);
    }
  }

  // What Jinja knows and chat templates do not use where they are run here.
  void other_statement(Statement& node, const std::string& name) {
    static constexpr std::array<std::string_view, 4> kSingle = {"include", "import", "from", "extends"};
    static constexpr std::array<std::string_view, 5> kBlocks = {"call", "filter", "with", "block",
                                                                "autoescape"};
    if (!holds(kSingle, name) && !holds(kBlocks, name)) {
      fail(unsupported(
          fmt::format("the tag {{% {} %}}, unless its beginning is missing,", base::printable(name, 40))));
    }
    node.kind = Statement::Kind::kUnsupported;
    node.text = fmt::format("{{% {} %}}", name);
    note_unsupported(node.text);
    while (current().kind != Kind::kBlockEnd) ++at_;
    if (holds(kBlocks, name)) {
      const MayNeverRun inside(*this);
      node.body = body_and_end("end" + name);
    } else {
      ++at_;
    }
  }

  void if_statement(Statement& node) {
    node.kind = Statement::Kind::kIf;
    ExpressionPtr test = expression(true, false);
    const MayNeverRun branches(*this);
    while (true) {
      expect(Kind::kBlockEnd);
      Body then = body({"elif", "else", "endif"});
      node.branches.emplace_back(std::move(test), std::move(then));
      if (!take_name("elif")) break;
      test = expression(true, false);
    }
    if (take_name("else")) {
      expect(Kind::kBlockEnd);
      node.branches.emplace_back(nullptr, body({"endif"}));
    }
    ++at_;
    expect(Kind::kBlockEnd);
  }

  void for_statement(Statement& node) {
    node.kind = Statement::Kind::kFor;
    do {
      if (is_op("(") || is_op("[")) fail(unsupported("a target in brackets"));
      node.targets.push_back(expect_variable());
    } while (take_op(","));
    if (!take_name("in")) fail(fmt::format("\"in\" is expected before {}", shown()));
    node.value = expression(true, false);
    if (take_name("if")) node.filter = expression();
    if (is_name("recursive")) fail(unsupported("a recursive loop"));
    expect(Kind::kBlockEnd);
    ++loops_;
    node.body = body({"else", "endfor"});
    --loops_;
    if (take_name("else")) {
      expect(Kind::kBlockEnd);
      node.otherwise = body({"endfor"});
    }
    ++at_;
    expect(Kind::kBlockEnd);
  }

  void set_statement(Statement& node) {
    node.targets.push_back(expect_variable());
    if (take_op(".")) node.targets[0].append(1, '.').append(expect_identifier());
    if (is_op(",")) fail(unsupported("setting several names at once"));
    if (is_op("|")) fail(unsupported("a filter of a set block"));
    if (take_op("=")) {
      node.kind = Statement::Kind::kSet;
      node.value = expression(true);
      return expect(Kind::kBlockEnd);
    }
    node.kind = Statement::Kind::kSetBlock;
    node.body = body_and_end("endset");
  }

  void macro_statement(Statement& node) {
    node.kind = Statement::Kind::kMacro;
    node.text = expect_variable();
    expect_op("(");
    while (!take_op(")")) {
      if (!node.targets.empty()) expect_op(",");
      node.targets.push_back(expect_variable());
      ExpressionPtr fallback = take_op("=") ? expression() : nullptr;
      if (fallback == nullptr && !node.defaults.empty() && node.defaults.back() != nullptr) {
        fail("a parameter without default follows one with a default");
      }
      node.defaults.push_back(std::move(fallback));
    }
    const MayNeverRun inside(*this);
    const int loops = std::exchange(loops_, 0);
    node.body = body_and_end("endmacro");
    loops_ = loops;
  }

  // Expressions, by precedence: condition, or, and, not, comparison, + and -, ~, the rest of arithmetic, unary.
  [[nodiscard]] Node make(Expression::Kind kind, std::string text = {}) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = current().line;
    node->text = std::move(text);
    return node;
  }
  [[nodiscard]] Node constant(Value value) const {
    Node node = make(Expression::Kind::kConstant);
    node->value = std::move(value);
    return node;
  }
  void deepen(Expression& parent, const Expression* child) const {
    if (child == nullptr) return;
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMaxTreeDepth)
      fail(fmt::format("the expression nests deeper than {} levels", kMaxTreeDepth));
  }
  void add(Expression& parent, ExpressionPtr child) const {
    deepen(parent, child.get());
    parent.args.push_back(std::move(child));
  }

  // `a, b` without brackets makes a tuple, where `with_tuple`.
  Node expression(bool with_tuple = false, bool with_condition = true) {
    const Level level(*this);
    Node first = with_condition ? condition() : binary(0);
    if (!with_tuple || !is_op(",")) return first;
    Node list = make(Expression::Kind::kList, "tuple");
    add(*list, std::move(first));
    while (take_op(",")) {
      if (current().kind == Kind::kBlockEnd || current().kind == Kind::kVariableEnd || is_op(")")) break;
      add(*list, with_condition ? condition() : binary(0));
    }
    return list;
  }

  Node condition() {
    const std::size_t before = unsupported_.size();
    Node node = binary(0);
    while (take_name("if")) {
      unsupported_.resize(before);  // The value may never be asked for.
      Node choice = make(Expression::Kind::kCondition);
      add(*choice, std::move(node));
      add(*choice, binary(0));
      const MayNeverRun otherwise(*this);
      add(*choice, take_name("else") ? expression() : nullptr);
      node = std::move(choice);
    }
    return node;
  }

  Node binary(std::size_t level) {
    static constexpr std::array<std::array<std::string_view, 5>, 5> kLevels = {
        {{"or"}, {"and"}, {"+", "-"}, {"~"}, {"*", "//", "%", "/", "**"}}};
    const auto operand = [&] {
      return level == 1 ? negation() : level + 1 == kLevels.size() ? unary(true) : binary(level + 1);
    };
    Node left = operand();
    while ((current().kind == Kind::kOperator || current().kind == Kind::kName) && !current().text.empty() &&
           holds(kLevels[level], current().text)) {
      if (is_op("/") || is_op("**")) note_unsupported(fmt::format("the operator {}", current().text));
      Node node = make(Expression::Kind::kBinary, current().text);
      ++at_;
      add(*node, std::move(left));
      add(*node, operand());
      left = std::move(node);
    }
    return left;
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
    if (!is_name("not") || peek().kind != Kind::kName || peek().text != "in") return {};
    at_ += 2;
    return "not in";
  }

  Node comparison() {
    Node left = binary(2);
    std::string op = comparator();
    if (op.empty()) return left;
    Node chain = make(Expression::Kind::kCompare);
    add(*chain, std::move(left));
    for (; !op.empty(); op = comparator()) {
      chain->names.push_back(std::move(op));
      add(*chain, binary(2));
    }
    return chain;
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
    while (with_filter && (is_op("|") || is_name("is"))) {
      node = is_op("|") ? filter(std::move(node)) : test(std::move(node));
    }
    return node;
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
        if (std::from_chars(token.text.data(), end, value).ec != std::errc{}) {
          fail(unsupported(fmt::format("so large a number as {}", base::printable(token.text, 40))));
        }
        ++at_;
        return constant(value);
      }
      default:
        break;
    }
    if (take_op("(")) {
      if (take_op(")")) return make(Expression::Kind::kList, "tuple");
      Node node = expression(true);
      expect_op(")");
      return node;
    }
    if (take_op("[")) return items(make(Expression::Kind::kList), "]");
    if (take_op("{")) return items(make(Expression::Kind::kDict), "}");
    fail(fmt::format("an expression is expected before {}", shown()));
  }

  Node name() {
    if (is_name("loop")) return loop();
    Node node = make(Expression::Kind::kName, tokens_[at_++].text);
    if (node->text == "true" || node->text == "True") return constant(true);
    if (node->text == "false" || node->text == "False") return constant(false);
    if (node->text == "none" || node->text == "None") return constant(None{});
    return node;
  }

  Node loop() {
    static constexpr std::array<std::string_view, 9> kAttributes = {
        "index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem"};
    Node node = make(Expression::Kind::kLoop);
    ++at_;
    if (is_name("is")) return node;  // Whether there is a loop.
    if (!take_op(".")) fail(unsupported("loop as a value of its own"));
    node->text = expect_identifier();
    if (!holds(kAttributes, node->text)) {
      note_unsupported(fmt::format("loop.{}", base::printable(node->text, 40)));
      if (take_op("(")) arguments(*node);
    }
    return node;
  }

  // The items of a list or a dict, and what closes it.
  Node items(Node node, std::string_view close) {
    while (!take_op(close)) {
      if (!node->args.empty()) {
        expect_op(",");
        if (take_op(close)) break;
      }
      add(*node, expression());
      if (node->kind != Expression::Kind::kDict) continue;
      expect_op(":");
      add(*node, expression());
    }
    return node;
  }

  Node postfix(Node node) {
    while (true) {
      if (take_op(".")) {
        node = attribute(std::move(node));
      } else if (take_op("[")) {
        node = subscript(std::move(node));
      } else if (take_op("(")) {
        if (node->kind != Expression::Kind::kName) {
          fail(unsupported("calling anything but a macro, a function or a method"));
        }
        Node call = make(Expression::Kind::kCall);
        add(*call, std::move(node));
        arguments(*call);
        node = std::move(call);
      } else {
        return node;
      }
    }
  }

  Node attribute(Node object) {
    Node node = make(Expression::Kind::kAttribute, expect_identifier());
    add(*node, std::move(object));
    if (!take_op("(")) return node;
    node->kind = Expression::Kind::kMethod;
    node->builtin = find_method(node->text);
    if (node->builtin == nullptr)
      note_unsupported(fmt::format("the method {}", base::printable(node->text, 40)));
    arguments(*node);
    return node;
  }

  Node subscript(Node object) {
    Node node = make(Expression::Kind::kItem);
    add(*node, std::move(object));
    ExpressionPtr start = is_op(":") ? nullptr : expression();
    if (is_op(":")) node->kind = Expression::Kind::kSlice;
    add(*node, std::move(start));
    for (int i = 0; node->kind == Expression::Kind::kSlice && i < 2; ++i) {
      const bool given = take_op(":") && !is_op(":") && !is_op("]");
      add(*node, given ? expression() : nullptr);
    }
    if (is_op(",")) fail(unsupported("a tuple in brackets"));
    expect_op("]");
    return node;
  }

  // The arguments of a call after its "(".
  void arguments(Expression& call) {
    bool first = true;
    while (!take_op(")")) {
      if (!std::exchange(first, false)) {
        expect_op(",");
        if (take_op(")")) break;
      }
      if (is_op("*") || is_op("**")) fail(unsupported("\"*\" in front of an argument"));
      if (current().kind == Kind::kName && peek().kind == Kind::kOperator && peek().text == "=") {
        std::string name = expect_identifier();
        ++at_;
        Node value = expression();
        deepen(call, value.get());
        call.named.emplace_back(std::move(name), std::move(value));
      } else {
        if (!call.named.empty()) fail("a positional argument follows a named one");
        add(call, expression());
      }
    }
  }

  Node filter(Node input) {
    ++at_;
    Node node = make(Expression::Kind::kFilter, expect_identifier());
    node->builtin = find_filter(node->text);
    if (node->builtin == nullptr)
      note_unsupported(fmt::format("the filter {}", base::printable(node->text, 40)));
    add(*node, std::move(input));
    if (take_op("(")) arguments(*node);
    return node;
  }

  Node test(Node input) {
    static constexpr std::array<std::string_view, 4> kNoArgument = {"else", "or", "and", "is"};
    ++at_;
    const bool negated = take_name("not");
    Node node = make(Expression::Kind::kTest, expect_identifier());
    node->builtin = find_test(node->text);
    if (node->builtin == nullptr)
      note_unsupported(fmt::format("the test {}", base::printable(node->text, 40)));
    if (input->kind == Expression::Kind::kLoop && input->text.empty() && node->text != "defined") {
      fail(unsupported("loop as a value of its own"));
    }
    add(*node, std::move(input));
    if (take_op("(")) {
      arguments(*node);
    } else if (current().kind == Kind::kString || current().kind == Kind::kInteger || is_op("[") ||
               is_op("{") || (current().kind == Kind::kName && !holds(kNoArgument, current().text))) {
      add(*node, postfix(primary()));
    }
    if (is_name("is")) fail("tests cannot be chained with \"is\"");
    if (!negated) return node;
    Node inverse = make(Expression::Kind::kUnary, "not");
    add(*inverse, std::move(node));
    return inverse;
  }

  const std::string& name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int level_ = 0;
  int loops_ = 0;
  std::vector<std::pair<int, std::string>> unsupported_;  // Line and clause.
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
