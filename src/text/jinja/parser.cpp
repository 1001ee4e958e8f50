#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <utility>

#include "base/printable.h"
#include "base/stack.h"
#include "text/jinja/builtins.h"
#include "text/jinja/lexer.h"
#include "text/jinja/program.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

constexpr std::size_t kMaxSource = std::size_t{4} << 20;

template <typename Range>
bool holds(const Range& range, std::string_view text) {
  return std::find(std::begin(range), std::end(range), text) != std::end(range);
}

std::string named(std::string_view kind, std::string_view name) {
  return fmt::format("the {} {}", kind, base::printable(name, 40));
}

class Parser {
 public:
  Parser(std::string_view source, const std::string& name) : name_(name), tokens_(tokenize(source, name)) {}

  Program run() {
    Body all = body({});
    if (!unsupported_.empty()) fail(unsupported_.front().second, unsupported_.front().first);
    return {std::move(all), std::move(literals_)};
  }

 private:
  using Kind = Token::Kind;
  using Execute = std::function<Flow(Interpreter&, std::string& out)>;
  using Evaluate = std::function<Value(Interpreter&)>;

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
  [[nodiscard]] bool is(Kind kind) const { return current().kind == kind; }
  [[nodiscard]] bool is_op(std::string_view text) const {
    return is(Kind::kOperator) && current().text == text;
  }
  [[nodiscard]] bool is_name(std::string_view text) const {
    return is(Kind::kName) && current().text == text;
  }
  bool take_op(std::string_view text) { return is_op(text) && (++at_, true); }
  bool take_name(std::string_view text) { return is_name(text) && (++at_, true); }
  void expect(Kind kind) {
    if (!is(kind)) fail(fmt::format("unexpected {}", shown()));
    ++at_;
  }
  void expect_op(std::string_view text) {
    if (!take_op(text)) fail(fmt::format("\"{}\" is expected before {}", text, shown()));
  }
  std::string expect_identifier() {
    if (!is(Kind::kName)) fail(fmt::format("a name is expected before {}", shown()));
    return tokens_[at_++].text;
  }
  std::string expect_variable() {
    if (is_name("loop")) fail(unsupported("setting loop"));
    return expect_identifier();
  }

  // Statements up to a tag with one of the names `ends`, which stays (its "{%" is taken).
  Body body(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    auto out = std::make_shared<std::vector<Statement>>();
    while (!is(Kind::kEnd)) {
      const int line = current().line;
      if (is(Kind::kData)) {
        out->push_back({line, data(tokens_[at_++].text)});
      } else if (is(Kind::kVariableBegin)) {
        out->push_back({line, output()});
      } else {
        expect(Kind::kBlockBegin);
        if (is(Kind::kName) && holds(ends, current().text)) return out;
        out->push_back({line, statement()});
      }
    }
    if (ends.size() != 0) fail(fmt::format("{{% {} %}} is missing", *(ends.end() - 1)));
    return out;
  }
  // The rest of a block: its statements and its closing tag.
  Body body_and_end(std::string_view end) {
    expect(Kind::kBlockEnd);
    Body out = body({end});
    ++at_;
    expect(Kind::kBlockEnd);
    return out;
  }
  // The same of a block that a loop cannot be left from.
  Body closed_body_and_end(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body out = body_and_end(end);
    loops_ = loops;
    return out;
  }

  template <typename Action>
  static Execute always(Action action) {
    return [action = std::move(action)](Interpreter& run, std::string& out) {
      action(run, out);
      return Flow::kNormal;
    };
  }

  Execute data(std::string text) {
    literals_.append(text).push_back('\0');
    return always([text = std::move(text)](Interpreter& run, std::string& out) { run.write(out, text); });
  }

  Execute output() {
    ++at_;
    Expression value = expression(true);
    expect(Kind::kVariableEnd);
    return always([value = std::move(value)](Interpreter& run, std::string& out) {
      run.write(out, run.text_of(run.evaluate(value)));
    });
  }

  Execute statement() {
    const std::string name = expect_identifier();
    if (name == "if") return if_statement();
    if (name == "for") return for_statement();
    if (name == "set") return set_statement();
    if (name == "macro") return macro_statement();
    if (name == "generation") {
      return [body = closed_body_and_end("endgeneration")](Interpreter& run, std::string& out) {
        return run.execute_inside(body, out);
      };
    }
    if (name != "break" && name != "continue") return other_statement(name);
    if (loops_ == 0) fail(unsupported(fmt::format("{{% {} %}} outside of a loop or in a block of it", name)));
    expect(Kind::kBlockEnd);
    return [flow = name == "break" ? Flow::kBreak : Flow::kContinue](Interpreter&, std::string&) {
      return flow;
    };
  }

  // What Jinja knows and chat templates do not use where they are run here.
  Execute other_statement(const std::string& name) {
    static constexpr std::string_view kSingle[] = {"include", "import", "from", "extends"};
    static constexpr std::string_view kBlocks[] = {"call", "filter", "with", "block", "autoescape"};
    std::string shown = fmt::format("{{% {} %}}", base::printable(name, 40));
    if (!holds(kSingle, name) && !holds(kBlocks, name)) {
      fail(unsupported(fmt::format("the tag {}, unless its beginning is missing,", shown)));
    }
    note_unsupported(shown);
    while (!is(Kind::kBlockEnd)) ++at_;
    const MayNeverRun inside(*this);
    if (holds(kBlocks, name)) {
      body_and_end(fmt::format("end{}", name));
    } else {
      ++at_;
    }
    return [shown = std::move(shown)](Interpreter&, std::string&) -> Flow { refuse(shown); };
  }

  Execute if_statement() {
    std::vector<std::pair<Expression, Body>> branches;
    Expression test = expression(true, false);
    const MayNeverRun inside(*this);
    while (true) {
      expect(Kind::kBlockEnd);
      Body then = body({"elif", "else", "endif"});
      branches.emplace_back(std::move(test), std::move(then));
      if (!take_name("elif")) break;
      test = expression(true, false);
    }
    if (take_name("else")) {
      expect(Kind::kBlockEnd);
      branches.emplace_back(nullptr, body({"endif"}));
    }
    ++at_;
    expect(Kind::kBlockEnd);
    return [branches = std::move(branches)](Interpreter& run, std::string& out) {
      for (const auto& [test, then] : branches) {
        if (test == nullptr || run.evaluate(test).truthy()) return run.execute(then, out);
      }
      return Flow::kNormal;
    };
  }

  Execute for_statement() {
    ForLoop loop;
    do {
      if (is_op("(") || is_op("[")) fail(unsupported("a target in brackets"));
      loop.targets.push_back(expect_variable());
    } while (take_op(","));
    if (!take_name("in")) fail(fmt::format("\"in\" is expected before {}", shown()));
    loop.items = expression(true, false);
    if (take_name("if")) loop.condition = expression();
    if (is_name("recursive")) fail(unsupported("a recursive loop"));
    expect(Kind::kBlockEnd);
    ++loops_;
    loop.body = body({"else", "endfor"});
    --loops_;
    if (take_name("else")) fail(unsupported("{% else %} of a loop"));
    ++at_;
    expect(Kind::kBlockEnd);
    return [loop = std::move(loop)](Interpreter& run, std::string& out) { return run.execute(loop, out); };
  }

  Execute set_statement() {
    std::string target = expect_variable();
    if (take_op(".")) target.append(1, '.').append(expect_identifier());
    if (is_op(",")) fail(unsupported("setting several names at once"));
    if (is_op("|")) fail(unsupported("a filter of a set block"));
    if (take_op("=")) {
      Expression value = expression(true);
      expect(Kind::kBlockEnd);
      return always(
          [target, value](Interpreter& run, std::string&) { run.assign(target, run.evaluate(value)); });
    }
    return always([target, body = closed_body_and_end("endset")](Interpreter& run, std::string&) {
      std::string text;
      run.execute_inside(body, text);
      run.assign(target, run.made(std::move(text)));
    });
  }

  Execute macro_statement() {
    Macro macro{expect_variable(), {}, {}, {}};
    expect_op("(");
    while (!take_op(")")) {
      if (!macro.parameters.empty()) expect_op(",");
      macro.parameters.push_back(expect_variable());
      Expression fallback = take_op("=") ? expression() : nullptr;
      if (fallback == nullptr && !macro.defaults.empty() && macro.defaults.back() != nullptr) {
        fail("a parameter without default follows one with a default");
      }
      macro.defaults.push_back(std::move(fallback));
    }
    const MayNeverRun inside(*this);
    macro.body = closed_body_and_end("endmacro");
    return always([macro = std::move(macro)](Interpreter& run, std::string&) { run.define(macro); });
  }

  // Expressions, by precedence: condition, or, and, not, comparison, + and -, ~, the rest of arithmetic, unary.
  // Each function returns what evaluates the part of the template that it has read.

  // What is made of `children` (null where one is left out).
  [[nodiscard]] Expression node(const std::vector<Expression>& children, Evaluate evaluate) const {
    int depth = 1;
    for (const Expression& child : children) {
      if (child != nullptr) depth = std::max(depth, child->depth + 1);
    }
    if (depth > kMaxTreeDepth) fail(fmt::format("the expression nests deeper than {} levels", kMaxTreeDepth));
    return std::make_shared<const Node>(Node{current().line, depth, std::move(evaluate)});
  }
  [[nodiscard]] Expression constant(Value value) const {
    return node({}, [value = std::move(value)](Interpreter&) { return value; });
  }
  Expression refused(const std::string& what) {
    note_unsupported(what);
    return node({}, [what](Interpreter&) -> Value { refuse(what); });
  }

  // `a, b` without brackets makes a tuple, where `with_tuple`.
  Expression expression(bool with_tuple = false, bool with_condition = true) {
    const Level level(*this);
    Expression first = with_condition ? condition() : binary(0);
    if (!with_tuple || !is_op(",")) return first;
    std::vector<Expression> all = {std::move(first)};
    while (take_op(",")) {
      if (is(Kind::kBlockEnd) || is(Kind::kVariableEnd) || is_op(")")) break;
      all.push_back(with_condition ? condition() : binary(0));
    }
    return sequence(all, List::Kind::kTuple);
  }

  [[nodiscard]] Expression sequence(const std::vector<Expression>& items, List::Kind kind) const {
    return node(items, [items, kind](Interpreter& run) {
      List out(kind);
      for (const Expression& item : items) out.push_back(run.evaluate_to_keep(item));
      return run.made(std::move(out));
    });
  }

  Expression condition() {
    const std::size_t before = unsupported_.size();
    Expression value = binary(0);
    while (take_name("if")) {
      unsupported_.resize(before);  // The value may never be asked for.
      Expression test = binary(0);
      const MayNeverRun inside(*this);
      Expression otherwise = take_name("else") ? expression() : nullptr;
      value = node({value, test, otherwise}, [value, test, otherwise](Interpreter& run) -> Value {
        if (run.evaluate(test).truthy()) return run.evaluate(value);
        if (otherwise != nullptr) return run.evaluate(otherwise);
        return Undefined{"the inline if without else"};
      });
    }
    return value;
  }

  Expression binary(std::size_t level) {
    static constexpr std::array<std::array<std::string_view, 5>, 5> kLevels = {
        {{"or"}, {"and"}, {"+", "-"}, {"~"}, {"*", "//", "%", "/", "**"}}};
    const auto operand = [&] {
      return level == 1 ? negation() : level + 1 == kLevels.size() ? unary(true) : binary(level + 1);
    };
    Expression left = operand();
    while ((is(Kind::kOperator) || is(Kind::kName)) && holds(kLevels[level], current().text)) {
      if (is_op("/") || is_op("**")) note_unsupported(named("operator", current().text));
      const std::string op = tokens_[at_++].text;
      left = operation(op, left, operand());
    }
    return left;
  }

  [[nodiscard]] Expression operation(const std::string& op, const Expression& a, const Expression& b) const {
    if (op == "and" || op == "or") {
      return node({a, b}, [a, b, ends = op == "or"](Interpreter& run) {
        Value left = run.evaluate(a);
        return left.truthy() == ends ? left : run.evaluate(b);
      });
    }
    return node({a, b}, [a, b, op](Interpreter& run) {
      const Value left = run.evaluate(a);
      const Value right = run.evaluate(b);
      return op == "~" ? run.made(run.text_of(left) + run.text_of(right)) : arithmetic(run, op, left, right);
    });
  }

  [[nodiscard]] Expression inverse(const Expression& value) const {
    return node({value}, [value](Interpreter& run) { return !run.evaluate(value).truthy(); });
  }
  Expression negation() {
    if (!take_name("not")) return comparison();
    const Level level(*this);
    return inverse(negation());
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

  Expression comparison() {
    Expression left = binary(2);
    const std::string op = comparator();
    if (op.empty()) return left;
    Expression right = binary(2);
    if (!comparator().empty()) fail(unsupported("a comparison of more than two values"));
    return node({left, right}, [left, right, op](Interpreter& run) {
      const Value a = run.evaluate(left);
      return compares(run, op, a, run.evaluate(right));
    });
  }

  Expression unary(bool with_filter) {
    const Level level(*this);
    Expression value;
    if (is_op("-") || is_op("+")) {
      const std::string op = tokens_[at_++].text;
      value = operation(op, constant(std::int64_t{0}), unary(false));
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    while (with_filter && (is_op("|") || is_name("is"))) {
      value = is_op("|") ? filter(value) : test(value);
    }
    return value;
  }

  Expression primary() {
    if (is(Kind::kName)) return name();
    if (is(Kind::kInteger)) return integer();
    if (is(Kind::kString)) {
      std::string text;
      while (is(Kind::kString)) text += tokens_[at_++].text;
      literals_.append(text).push_back('\0');
      return constant(std::move(text));
    }
    if (take_op("(")) {
      if (take_op(")")) return sequence({}, List::Kind::kTuple);
      Expression inner = expression(true);
      expect_op(")");
      return inner;
    }
    if (take_op("[")) return sequence(items("]"), List::Kind::kList);
    if (take_op("{")) return dict(items("}"));
    fail(fmt::format("an expression is expected before {}", shown()));
  }

  Expression integer() {
    const std::string& text = current().text;
    std::int64_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) {
      fail(unsupported(fmt::format("so large a number as {}", base::printable(text, 40))));
    }
    ++at_;
    return constant(value);
  }

  Expression name() {
    const std::string text = tokens_[at_++].text;
    if (text == "loop") return loop();
    if (text == "true" || text == "True") return constant(true);
    if (text == "false" || text == "False") return constant(false);
    if (text == "none" || text == "None") return constant(None{});
    if (!take_op("(")) return node({}, [text](Interpreter& run) { return run.name(text); });
    CallArguments given = arguments();
    return node(given.values, [text, given](Interpreter& run) { return run.call(text, given); });
  }

  Expression loop() {
    using Read = Value (*)(Loop&);
    static constexpr std::pair<std::string_view, Read> kAttributes[] = {
        {"index", [](Loop& loop) -> Value { return loop.index + 1; }},
        {"index0", [](Loop& loop) -> Value { return loop.index; }},
        {"first", [](Loop& loop) -> Value { return loop.index == 0; }},
        {"last", [](Loop& loop) -> Value { return !loop.peek(); }},
        {"previtem", [](Loop& loop) { return loop.index == 0 ? Undefined{"loop.previtem"} : loop.before; }},
        {"nextitem", [](Loop& loop) { return loop.peek().value_or(Undefined{"loop.nextitem"}); }}};
    if (!take_op(".")) fail(unsupported("loop as a value of its own"));
    const std::string attribute = expect_identifier();
    for (const auto& [known, read] : kAttributes) {
      if (attribute == known) return node({}, [read = read](Interpreter& run) { return read(run.loop()); });
    }
    if (take_op("(")) arguments();
    return refused(fmt::format("loop.{}", base::printable(attribute, 40)));
  }

  // The items of a list, or the keys and values of a dict in turn, and what closes it.
  std::vector<Expression> items(std::string_view close) {
    std::vector<Expression> out;
    while (!take_op(close)) {
      if (!out.empty()) {
        expect_op(",");
        if (take_op(close)) break;
      }
      out.push_back(expression());
      if (close != "}") continue;
      expect_op(":");
      out.push_back(expression());
    }
    return out;
  }

  [[nodiscard]] Expression dict(const std::vector<Expression>& items) const {
    return node(items, [items](Interpreter& run) {
      Dict dict;
      for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
        const Value key = run.evaluate(items[i]);
        if (key.text() == nullptr) refuse(fmt::format("a {} as the key of a dict", key.type_name()));
        put(run, dict, *key.text(), run.evaluate_to_keep(items[i + 1]));
      }
      return dict;
    });
  }

  Expression postfix(Expression value) {
    while (true) {
      if (take_op(".")) {
        value = attribute(value);
      } else if (take_op("[")) {
        value = subscript(value);
      } else if (is_op("(")) {
        fail(unsupported("calling anything but a macro, a function or a method"));
      } else {
        return value;
      }
    }
  }

  Expression attribute(const Expression& object) {
    const std::string name = expect_identifier();
    if (!take_op("(")) {
      return node({object},
                  [object, name](Interpreter& run) { return get_attribute(run.evaluate(object), name); });
    }
    const CallArguments given = arguments();
    if (!has_method(name)) return refused(named("method", name));
    return node(children(object, given), [object, name, given](Interpreter& run) {
      const Value value = run.evaluate(object);
      return call_method(run, value, name, run.arguments(given));
    });
  }

  Expression subscript(const Expression& object) {
    Expression begin = is_op(":") ? nullptr : expression();
    if (take_op("]")) {
      return node({object, begin}, [object, begin](Interpreter& run) {
        const Value value = run.evaluate(object);
        return get_item(run, value, run.evaluate(begin));
      });
    }
    if (is_op(",")) fail(unsupported("a tuple in brackets"));
    expect_op(":");
    Expression end = is_op(":") || is_op("]") ? nullptr : expression();
    const bool reversed = take_op(":") && take_op("-");
    if (reversed && (begin != nullptr || end != nullptr || current().text != "1")) {
      fail(unsupported("a step in a slice other than [::-1]"));
    }
    if (reversed) ++at_;
    if (!is_op("]")) fail(unsupported("a step in a slice other than [::-1]"));
    ++at_;
    return node({object, begin, end}, [object, begin, end, reversed](Interpreter& run) {
      const auto bound = [&](const Expression& part) {
        return part == nullptr ? None{} : run.evaluate(part);
      };
      const Value value = run.evaluate(object);
      const Value first = bound(begin);
      return get_slice(run, value, first, bound(end), reversed);
    });
  }

  // The arguments of a call after its "(".
  CallArguments arguments() {
    CallArguments out;
    while (!take_op(")")) {
      if (!out.values.empty()) {
        expect_op(",");
        if (take_op(")")) break;
      }
      if (is_op("*") || is_op("**")) fail(unsupported("\"*\" in front of an argument"));
      if (is(Kind::kName) && peek().kind == Kind::kOperator && peek().text == "=") {
        out.names.push_back(expect_identifier());
        ++at_;
      } else if (!out.names.empty()) {
        fail("a positional argument follows a named one");
      }
      out.values.push_back(expression());
    }
    return out;
  }

  static std::vector<Expression> children(const Expression& object, const CallArguments& given) {
    std::vector<Expression> out = given.values;
    out.push_back(object);
    return out;
  }

  // A filter or test of `input`; `builtin` is null if tte has none of that name.
  Expression built_in(std::string_view kind, const Builtin* builtin, const std::string& name,
                      const Expression& input, const CallArguments& given) {
    if (builtin == nullptr) return refused(named(kind, name));
    return node(children(input, given), [builtin, input, given](Interpreter& run) {
      const Value value = run.evaluate(input);
      return invoke(run, *builtin, value, run.arguments(given));
    });
  }

  Expression filter(const Expression& input) {
    ++at_;
    const std::string name = expect_identifier();
    return built_in("filter", find_filter(name), name, input, take_op("(") ? arguments() : CallArguments{});
  }

  Expression test(const Expression& input) {
    static constexpr std::string_view kNoArgument[] = {"else", "or", "and", "is"};
    ++at_;
    const bool negated = take_name("not");
    const std::string name = expect_identifier();
    CallArguments given;
    if (take_op("(")) {
      given = arguments();
    } else if (is(Kind::kString) || is(Kind::kInteger) || is_op("[") || is_op("{") ||
               (is(Kind::kName) && !holds(kNoArgument, current().text))) {
      given.values.push_back(postfix(primary()));
    }
    if (is_name("is")) fail("tests cannot be chained with \"is\"");
    Expression out = built_in("test", find_test(name), name, input, given);
    return negated ? inverse(out) : out;
  }

  const std::string& name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int level_ = 0;
  int loops_ = 0;
  std::string literals_;
  std::vector<std::pair<int, std::string>> unsupported_;  // Line and clause.
};

}  // namespace

Program parse(std::string_view source, const std::string& name) {
  if (source.size() > kMaxSource) {
    throw ModelError(fmt::format("{}: a template of {} bytes is too long, at most {} are read.",
                                 base::printable(name, 200), source.size(), kMaxSource));
  }
  return Parser(source, name).run();
}

}  // namespace tte::text::jinja
