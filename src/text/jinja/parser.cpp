#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <tuple>
#include <utility>

#include "base/printable.h"
#include "base/stack.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lexer.h"

namespace tte::text::jinja {
namespace {

constexpr std::size_t kMaxSource = std::size_t{4} << 20;
constexpr int kMaxLevels = 200;  // Calls of the parser inside itself.

class Parser {
 public:
  Parser(std::string_view source, int& line) : line_(line), tokens_(tokenize(source, line)) {
    line_ = current().line;
  }

  Program run() {
    program_.body = body({});
    if (unsupported_.empty()) return std::move(program_);
    line_ = unsupported_.front().first;
    refuse("{}", unsupported_.front().second);
  }

 private:
  using Kind = Token::Kind;
  using Execute = std::function<void(Interpreter&)>;
  using Evaluate = std::function<Value(Interpreter&)>;

  // Counts how deep the parser is in itself.
  struct Level {
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.level_ <= kMaxLevels && base::stack_left() >= base::kStackReserve) return;
      fail("it nests too deep ({} levels) for the stack", parser_.level_);
    }
    ~Level() { --parser_.level_; }
    Parser& parser_;
  };
  // Tokens.
  [[nodiscard]] const Token& current() const { return tokens_[at_]; }
  // The text of the current token, which is passed.
  const std::string& next() {
    line_ = tokens_[at_ + 1].line;
    return tokens_[at_++].text;
  }
  [[nodiscard]] std::string shown() const {
    const std::string text = base::printable(current().text, 40);
    return is(Kind::kEnd) ? text : fmt::format("\"{}\"", text);
  }
  [[nodiscard]] bool is(Kind kind) const { return current().kind == kind; }
  // Whether the current token, or the one `ahead` of it, is this name or mark.
  [[nodiscard]] bool is(std::string_view word, std::size_t ahead = 0) const {
    const Token& token = tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
    return (token.kind == Kind::kName || token.kind == Kind::kMark) && token.text == word;
  }
  bool accept(std::string_view word) {
    if (!is(word)) return false;
    next();
    return true;
  }
  void expect(std::string_view word) {
    if (!accept(word)) fail("\"{}\" is expected before {}", word, shown());
  }
  std::string expect_name() {
    if (!is(Kind::kName)) fail("a name is expected before {}", shown());
    return next();
  }
  std::string expect_variable() {
    if (is("loop")) refuse("setting loop");
    return expect_name();
  }

  // Statements up to a tag with one of the names `ends`, which stays (its "{%" is taken).
  Body body(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    Body out;
    while (!is(Kind::kEnd)) {
      const auto is_next = [&](std::string_view end) { return is(end, 1); };
      if (is("{%") && std::any_of(ends.begin(), ends.end(), is_next) && accept("{%")) return out;
      const int line = line_;
      out.push_back(node(line, [execute = statement()](Interpreter& run) {
        execute(run);
        return Value();
      }));
    }
    if (ends.size() != 0) fail("{{% {} %}} is missing", *(ends.end() - 1));
    return out;
  }
  // The rest of a block with variables of its own: its statements and its closing tag.
  Body block(std::string_view end) {
    const bool outside = std::exchange(in_loop_, end == "endfor");
    ++blocks_;
    expect("%}");
    Body out = body({end});
    expect(end);
    expect("%}");
    --blocks_;
    in_loop_ = outside;
    return out;
  }

  static Execute written(Expression value) {
    return [value](Interpreter& run) { run.write(str(run.evaluate(value))); };
  }

  Execute statement() {
    if (is(Kind::kData)) return written(literal(next()));
    if (accept("{{")) {
      const Expression value = expression(true);
      expect("}}");
      return written(value);
    }
    expect("{%");
    const std::string name = expect_name();
    if (name == "if") return if_statement();
    if (name == "for") return for_statement();
    if (name == "set") return set_statement();
    if (name == "macro") return macro_statement();
    if (name == "generation") {
      return [body = block("endgeneration")](Interpreter& run) { run.write(run.written_by(body)); };
    }
    if (name != "break" && name != "continue") return other_statement(name);
    if (!in_loop_) refuse("{{% {} %}} outside of a loop or in a block of it", name);
    expect("%}");
    return [flow = name == "break" ? Flow::kBreak : Flow::kContinue](Interpreter& run) { run.flow = flow; };
  }

  // What Jinja knows and chat templates do not use where they are run here.
  Execute other_statement(const std::string& name) {
    static constexpr std::string_view kKnown[] = {
        "include",   "import", "from",    "extends", "call",     "endcall",    "filter",
        "endfilter", "with",   "endwith", "block",   "endblock", "autoescape", "endautoescape"};
    const std::string shown = base::printable(name, 40);
    const bool known = std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown);
    if (!known) refuse("the tag {{% {} %}}, unless its beginning is missing,", shown);
    const Expression out = refused("{{% {} %}}", shown);
    while (!accept("%}")) next();
    return written(out);
  }

  Execute if_statement() {
    std::vector<std::pair<Expression, Body>> branches;
    const auto branch = [&](Expression test) {
      expect("%}");
      branches.emplace_back(test, body({"elif", "else", "endif"}));
    };
    Expression first = expression(true, false);
    const std::size_t certain = unsupported_.size();
    branch(first);
    while (accept("elif")) branch(expression(true, false));
    if (accept("else")) branch(nullptr);
    expect("endif");
    expect("%}");
    unsupported_.resize(certain);
    return [branches = std::move(branches)](Interpreter& run) {
      for (const auto& [test, then] : branches) {
        if (test == nullptr || run.evaluate(test).truthy()) return run.execute(then);
      }
    };
  }

  Execute for_statement() {
    ForLoop loop;
    do {
      if (is("(") || is("[")) refuse("a target in brackets");
      loop.targets.push_back(expect_variable());
    } while (accept(","));
    expect("in");
    loop.items = expression(true, false);
    if (accept("if")) loop.condition = expression();
    if (is("recursive")) refuse("a recursive loop");
    loop.body = block("endfor");
    return [loop = std::move(loop)](Interpreter& run) { run.execute(loop); };
  }

  Execute set_statement() {
    std::string target = expect_variable();
    if (accept(".")) target.append(1, '.').append(expect_name());
    if (is(",")) refuse("setting several names at once");
    if (is("|")) refuse("a filter of a set block");
    if (accept("=")) {
      Expression value = expression(true);
      expect("%}");
      return [target, value](Interpreter& run) { run.assign(target, run.evaluate(value)); };
    }
    return [target, body = block("endset")](Interpreter& run) {
      run.assign(target, run.made(run.written_by(body)));
    };
  }

  Execute macro_statement() {
    if (blocks_ != 0) refuse("a macro in a loop or another block");
    Macro macro{expect_variable(), {}, {}, {}};
    expect("(");
    list(")", [&] {
      macro.parameters.push_back(expect_variable());
      Expression fallback = accept("=") ? expression() : nullptr;
      if (fallback == nullptr && !macro.defaults.empty() && macro.defaults.back() != nullptr) {
        fail("a parameter without default follows one with a default");
      }
      macro.defaults.push_back(fallback);
    });
    const std::size_t certain = unsupported_.size();
    macro.body = block("endmacro");
    unsupported_.resize(certain);
    return [macro = std::move(macro)](Interpreter& run) { run.define(macro); };
  }

  // Expressions. Each function returns what evaluates the part of the template that it has read.

  Expression node(int line, Evaluate evaluate) {
    return program_.nodes.emplace_back(std::make_unique<const Node>(Node{line, std::move(evaluate)})).get();
  }
  Expression node(Evaluate evaluate) { return node(line_, std::move(evaluate)); }
  Expression constant(Value value) {
    return node([value = std::move(value)](Interpreter&) { return value; });
  }
  Expression literal(const std::string& text) {
    program_.literals.append(text).push_back('\0');
    return constant(text);
  }
  // What is not supported: an error when it runs, or now if it is certain to run.
  template <typename... Args>
  Expression refused(fmt::format_string<Args...> format, Args&&... args) {
    std::string what = fmt::format(format, std::forward<Args>(args)...);
    unsupported_.emplace_back(line_, what);
    return node([what = std::move(what)](Interpreter&) -> Value { refuse("{}", what); });
  }

  // `a, b` without brackets makes a tuple, where `with_tuple`.
  Expression expression(bool with_tuple = false, bool with_condition = true) {
    const auto one = [&] { return with_condition ? condition() : operation(); };
    Expression first = one();
    if (!with_tuple || !is(",")) return first;
    std::vector<Expression> all = {first};
    while (accept(",")) {
      if (is("%}") || is("}}") || is(")")) break;
      all.push_back(one());
    }
    return sequence(all, List::Kind::kTuple);
  }

  Expression sequence(const std::vector<Expression>& items, List::Kind kind) {
    return node([items, kind](Interpreter& run) {
      List out(kind);
      for (Expression item : items) out.push_back(run.evaluate(item));
      return run.made(std::move(out));
    });
  }

  Expression condition() {
    std::size_t certain = unsupported_.size();
    Expression value = operation();
    while (accept("if")) {
      unsupported_.resize(certain);  // The value may never be asked for.
      const Expression test = operation();
      certain = unsupported_.size();
      const Expression otherwise = accept("else") ? expression() : nullptr;
      unsupported_.resize(certain);
      value = node([value, test, otherwise](Interpreter& run) -> Value {
        if (run.evaluate(test).truthy()) return run.evaluate(value);
        if (otherwise != nullptr) return run.evaluate(otherwise);
        return Undefined{"the inline if without else"};
      });
    }
    return value;
  }

  // How strongly an operator between two operands binds.
  // clang-format off
  static constexpr int kNot = 3, kComparison = 4, kRefused = 8;
  static constexpr std::pair<std::string_view, int> kBinds[] = {
      {"or", 1}, {"and", 2},
      {"==", kComparison}, {"!=", kComparison}, {"<", kComparison}, {"<=", kComparison}, {">", kComparison},
      {">=", kComparison}, {"in", kComparison}, {"not in", kComparison},
      {"+", 5}, {"-", 5}, {"~", 6}, {"%", 7},
      {"*", kRefused}, {"/", kRefused}, {"//", kRefused}, {"**", kRefused}};
  // clang-format on

  // The operator between two operands that comes next, and how strongly it binds: 0 if there is none.
  [[nodiscard]] std::pair<std::string, int> binary_operator() const {
    if (!is(Kind::kName) && !is(Kind::kMark)) return {};
    const bool not_in = is("not") && is("in", 1);
    std::string text = not_in ? "not in" : current().text;
    const auto* known =
        std::find_if(std::begin(kBinds), std::end(kBinds), [&](const auto& b) { return b.first == text; });
    return {std::move(text), known == std::end(kBinds) ? 0 : known->second};
  }

  // Operands between operators that bind at least so strongly.
  Expression operation(int least = 1) {
    const Level level(*this);
    Expression left = least <= kNot && accept("not") ? inverse(operation(kNot)) : unary(true);
    bool compared = false;
    for (auto [op, binds] = binary_operator(); binds >= least; std::tie(op, binds) = binary_operator()) {
      for (int words = op == "not in" ? 2 : 1; words > 0; --words) next();
      if (binds == kRefused) left = refused("the operator {}", base::printable(op, 40));
      const Expression right = operation(binds + 1);
      if (binds == kComparison && std::exchange(compared, true))
        refuse("a comparison of more than two values");
      if (binds != kRefused) left = binary(op, left, right);
    }
    return left;
  }

  Expression binary(const std::string& op, Expression a, Expression b) {
    if (op == "and" || op == "or") {
      return node([a, b, ends = op == "or"](Interpreter& run) {
        Value left = run.evaluate(a);
        return left.truthy() == ends ? left : run.evaluate(b);
      });
    }
    return node([a, b, op](Interpreter& run) {
      const Value left = run.evaluate(a);
      return operate(run, op, left, run.evaluate(b));
    });
  }
  Expression inverse(Expression value) {
    return node([value](Interpreter& run) { return !run.evaluate(value).truthy(); });
  }

  Expression unary(bool with_filter) {
    const Level level(*this);
    Expression value;
    if (is("-") || is("+")) {
      const std::string op = next();
      value = binary(op, constant(std::int64_t{0}), unary(false));
    } else {
      value = primary();
    }
    value = postfix(value);
    while (with_filter && (is("|") || is("is"))) value = accept("|") ? filter(value) : test(value);
    return value;
  }

  Expression primary() {
    if (is(Kind::kName)) return name();
    if (is(Kind::kNumber)) return number();
    if (is(Kind::kString)) {
      std::string text;
      while (is(Kind::kString)) text += next();
      return literal(text);
    }
    if (accept("(")) {
      if (accept(")")) return sequence({}, List::Kind::kTuple);
      Expression inner = expression(true);
      expect(")");
      return inner;
    }
    if (accept("{")) return dict();
    if (accept("[")) {
      std::vector<Expression> items;
      list("]", [&] { items.push_back(expression()); });
      return sequence(items, List::Kind::kList);
    }
    fail("an expression is expected before {}", shown());
  }

  Expression number() {
    const std::string text = next();
    const char* end = text.data() + text.size();
    std::int64_t value = 0;
    const auto read = std::from_chars(text.data(), end, value);
    const bool octal = text.size() > 1 && text[0] == '0';
    if (read.ec == std::errc{} && read.ptr == end && !octal) return constant(value);
    refuse("the number {}", base::printable(text, 40));
  }

  Expression name() {
    const std::string text = next();
    if (text == "loop") return loop();
    if (text == "true" || text == "True") return constant(true);
    if (text == "false" || text == "False") return constant(false);
    if (text == "none" || text == "None") return constant(None{});
    if (!accept("(")) return node([text](Interpreter& run) { return run.name(text); });
    CallArguments given = arguments();
    return node([text, given](Interpreter& run) { return run.call(text, given); });
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
    if (!accept(".")) refuse("loop as a value of its own");
    const std::string attribute = expect_name();
    for (const auto& [known, read] : kAttributes) {
      if (attribute == known) return node([read = read](Interpreter& run) { return read(run.loop()); });
    }
    if (accept("(")) arguments();
    return refused("loop.{}", base::printable(attribute, 40));
  }

  // What stands between commas up to `close`; `read` reads one of it.
  template <typename Read>
  void list(std::string_view close, Read read) {
    for (bool first = true; !accept(close); first = false) {
      if (!first) expect(",");
      if (!first && accept(close)) return;
      read();
    }
  }

  Expression dict() {
    std::vector<Expression> items;  // Keys and values in turn.
    list("}", [&] {
      items.push_back(expression());
      expect(":");
      items.push_back(expression());
    });
    return node([items](Interpreter& run) {
      Dict dict;
      for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
        const Value key = run.evaluate(items[i]);
        if (key.text() == nullptr) refuse("a {} as the key of a dict", key.type_name());
        put(run.budget, dict, *key.text(), run.evaluate(items[i + 1]));
      }
      return dict;
    });
  }

  Expression postfix(Expression value) {
    while (true) {
      if (accept(".")) {
        value = attribute(value);
      } else if (accept("[")) {
        value = subscript(value);
      } else if (is("(")) {
        refuse("calling anything but a macro, a function or a method");
      } else {
        return value;
      }
    }
  }

  Expression item(Expression object, Expression key) {
    return node([object, key](Interpreter& run) {
      const Value value = run.evaluate(object);
      return get_item(run, value, run.evaluate(key));
    });
  }

  Expression attribute(Expression object) {
    if (is(Kind::kNumber)) return item(object, number());  // messages.0
    const std::string name = expect_name();
    if (!accept("(")) {
      return node([object, name](Interpreter& run) { return get_attribute(run.evaluate(object), name); });
    }
    const CallArguments given = arguments();
    if (!has_method(name)) return refused("the method {}", base::printable(name, 40));
    return node([object, name, given](Interpreter& run) {
      const Value value = run.evaluate(object);
      return call_method(run, value, name, run.arguments(given));
    });
  }

  Expression subscript(Expression object) {
    const auto part = [&] { return is(":") || is("]") ? constant(None{}) : expression(); };
    const Expression begin = is(":") ? constant(None{}) : expression();
    if (accept("]")) return item(object, begin);
    if (is(",")) refuse("a tuple in brackets");
    expect(":");
    const Expression end = part();
    const Expression step = accept(":") ? part() : constant(None{});
    expect("]");
    return node([object, begin, end, step](Interpreter& run) {
      const Value value = run.evaluate(object);
      const Value first = run.evaluate(begin);
      const Value last = run.evaluate(end);
      return get_slice(run, value, first, last, run.evaluate(step));
    });
  }

  // The arguments of a call after its "(".
  CallArguments arguments() {
    CallArguments out;
    list(")", [&] {
      if (is("*") || is("**")) refuse("\"*\" in front of an argument");
      if (is(Kind::kName) && is("=", 1)) {
        std::string name = expect_name();
        expect("=");
        out.named.emplace_back(std::move(name), expression());
      } else if (out.named.empty()) {
        out.positional.push_back(expression());
      } else {
        fail("a positional argument follows a named one");
      }
    });
    return out;
  }

  // The filter or test called `name` of `input`.
  Expression built_in(std::string_view kind, const std::string& name, Expression input,
                      const CallArguments& given) {
    const Builtin* builtin = find_builtin(kind, name);
    if (builtin == nullptr) return refused("the {} {}", kind, base::printable(name, 40));
    return node([builtin, input, given](Interpreter& run) {
      const Value value = run.evaluate(input);
      return invoke(run, *builtin, value, run.arguments(given));
    });
  }

  Expression filter(Expression input) {
    const std::string name = expect_name();
    return built_in("filter", name, input, accept("(") ? arguments() : CallArguments{});
  }

  Expression test(Expression input) {
    next();
    const bool negated = accept("not");
    const std::string name = expect_name();
    CallArguments given;
    if (accept("(")) {
      given = arguments();
    } else if (is(Kind::kString) || is(Kind::kNumber) || is("[") || is("{") ||
               (is(Kind::kName) && !is("else") && !is("or") && !is("and") && !is("is"))) {
      given.positional.push_back(postfix(primary()));
    }
    if (is("is")) fail("tests cannot be chained with \"is\"");
    Expression out = built_in("test", name, input, given);
    return negated ? inverse(out) : out;
  }

  int& line_;  // Where the current token stands.
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int level_ = 0;
  int blocks_ = 0;        // With variables of their own, around the current token.
  bool in_loop_ = false;  // The innermost of them is a loop.
  Program program_;
  // What is not supported and certain to run, by line. Blocks that may never run take back what they have added: that
  // is an error when it runs.
  std::vector<std::pair<int, std::string>> unsupported_;
};

}  // namespace

Program parse(std::string_view source, int& line) {
  if (source.size() > kMaxSource) fail("its {} bytes are more than {}", source.size(), kMaxSource);
  return Parser(source, line).run();
}

}  // namespace tte::text::jinja
