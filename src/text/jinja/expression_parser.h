// Parses the expressions of a template; its statements build on it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace tte::text::jinja {

// Expressions, by precedence: condition, or, and, not, comparison, + and -, ~, the rest of arithmetic, unary.
class ExpressionParser {
 public:
  ExpressionParser(std::string_view source, const std::string& name);

 protected:
  using Kind = Token::Kind;
  using Node = std::unique_ptr<Expression>;

  // Counts how deep the parser is in itself.
  struct Level {
    explicit Level(ExpressionParser& parser);
    ~Level() { --parser_.level_; }
    ExpressionParser& parser_;
  };

  [[noreturn]] void fail(const std::string& what) const;
  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  [[nodiscard]] const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  [[nodiscard]] static std::string shown(const Token& token);
  [[nodiscard]] bool is_op(std::string_view text) const;
  [[nodiscard]] bool is_name(std::string_view text) const;
  bool take_op(std::string_view text) { return is_op(text) && (++at_, true); }
  bool take_name(std::string_view text) { return is_name(text) && (++at_, true); }
  void expect_op(std::string_view text);
  std::string expect_identifier();
  [[nodiscard]] Node make(Expression::Kind kind, std::string text = {}) const;
  void add(Expression& parent, ExpressionPtr child) const;
  [[nodiscard]] Node constant(Value value) const;
  // `a, b` without brackets makes a list, where `with_tuple`.
  Node expression(bool with_tuple = false, bool with_condition = true);
  Node filters(Node node);
  // A filter after its "|"; `input` may be null.
  Node filter(Node input);

  std::size_t at_ = 0;
  const std::string& name_;
  std::vector<Token> tokens_;
  int level_ = 0;

 private:
  [[nodiscard]] bool ends_tuple() const;
  Node condition();
  template <typename Operand>
  Node binary(std::initializer_list<std::string_view> operators, Operand operand);
  Node either();
  Node negation();
  // The comparison operator at the current token, which moves past it; empty if there is none.
  std::string comparator();
  Node comparison();
  Node sum();
  Node unary(bool with_filter);
  Node primary();
  Node name();
  Node parenthesis();
  Node list();
  Node dict();
  Node postfix(Node node);
  Node call(Node function);
  Node subscript(Node object);
  // The arguments of a call after its "(".
  void arguments(Expression& call);
  Node filters_and_tests(Node node);
  [[nodiscard]] bool starts_test_argument() const;
  Node test(Node input);
};

}  // namespace tte::text::jinja
