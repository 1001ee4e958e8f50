#include <fmt/core.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "base/printable.h"
#include "text/jinja/ast.h"
#include "text/jinja/expression_parser.h"

namespace tte::text::jinja {
namespace {

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
      const int loops = std::exchange(loops_, 0);
      node.body = body_and_end("endgeneration");
      loops_ = loops;
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
      ExpressionPtr test = expression(true, false);
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
      if (is_op("(") || is_op("[")) fail("a target within a target is not supported by tte");
      std::string name = expect_identifier();
      if (name == "loop") fail("setting loop is not supported by tte");
      if (with_namespace && out.empty() && take_op(".")) name.append(1, '.').append(expect_identifier());
      out.push_back(std::move(name));
    } while (take_op(","));
    if (brackets) expect_op(")");
    if (is_op(",") || (brackets && out.size() == 1)) fail("such a target is not supported by tte");
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
