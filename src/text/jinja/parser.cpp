#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <tuple>
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
    const std::string text = base::printable(current().text, 40);
    return is(Kind::kEnd) ? text : fmt::format("\"{}\"", text);
  }
  [[nodiscard]] bool is(Kind kind) const { return current().kind == kind; }
  [[nodiscard]] bool is(std::string_view word) const {  // A name or a mark.
    return (is(Kind::kName) || is(Kind::kMark)) && current().text == word;
  }
  bool take(std::string_view word) { return is(word) && (++at_, true); }
  void expect(std::string_view word) {
    if (!take(word)) fail(fmt::format("\"{}\" is expected before {}", word, shown()));
  }
  std::string expect_name() {
    if (!is(Kind::kName)) fail(fmt::format("a name is expected before {}", shown()));
    return tokens_[at_++].text;
  }
  std::string expect_variable() {
    if (is("loop")) fail(unsupported("setting loop"));
    return expect_name();
  }

  // Statements up to a tag with one of the names `ends`, which stays (its "{%" is taken).
  Body body(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    auto out = std::make_shared<std::vector<Statement>>();
    while (!is(Kind::kEnd)) {
      const int line = current().line;
      if (is(Kind::kData)) {
        out->push_back({line, data(tokens_[at_++].text)});
      } else if (take("{{")) {
        out->push_back({line, output()});
      } else {
        expect("{%");
        if (is(Kind::kName) && holds(ends, current().text)) return out;
        out->push_back({line, statement()});
      }
    }
    if (ends.size() != 0) fail(fmt::format("{{% {} %}} is missing", *(ends.end() - 1)));
    return out;
  }
  // The rest of a block that a loop cannot be left from: its statements and its closing tag.
  Body block(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    ++scopes_;
    expect("%}");
    Body out = body({end});
    ++at_;
    expect("%}");
    --scopes_;
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
    Expression value = expression(true);
    expect("}}");
    return always([value = std::move(value)](Interpreter& run, std::string& out) {
      run.write(out, str(run.evaluate(value)));
    });
  }

  Execute statement() {
    const std::string name = expect_name();
    if (name == "if") return if_statement();
    if (name == "for") return for_statement();
    if (name == "set") return set_statement();
    if (name == "macro") return macro_statement();
    if (name == "generation") {
      return [body = block("endgeneration")](Interpreter& run, std::string& out) {
        return run.execute_inside(body, out);
      };
    }
    if (name != "break" && name != "continue") return other_statement(name);
    if (loops_ == 0) fail(unsupported(fmt::format("{{% {} %}} outside of a loop or in a block of it", name)));
    expect("%}");
    return [flow = name == "break" ? Flow::kBreak : Flow::kContinue](Interpreter&, std::string&) {
      return flow;
    };
  }

  // What Jinja knows and chat templates do not use where they are run here.
  Execute other_statement(const std::string& name) {
    static constexpr std::string_view kKnown[] = {
        "include",   "import", "from",    "extends", "call",     "endcall",    "filter",
        "endfilter", "with",   "endwith", "block",   "endblock", "autoescape", "endautoescape"};
    const std::string shown = fmt::format("{{% {} %}}", base::printable(name, 40));
    if (!holds(kKnown, name))
      fail(unsupported(fmt::format("the tag {}, unless its beginning is missing,", shown)));
    note_unsupported(shown);
    while (!take("%}")) ++at_;
    return [shown](Interpreter&, std::string&) -> Flow { refuse(shown); };
  }

  Execute if_statement() {
    std::vector<std::pair<Expression, Body>> branches;
    const auto branch = [&](Expression test) {
      expect("%}");
      Body then = body({"elif", "else", "endif"});
      branches.emplace_back(std::move(test), std::move(then));
    };
    Expression first = expression(true, false);
    const MayNeverRun inside(*this);
    branch(std::move(first));
    while (take("elif")) branch(expression(true, false));
    if (take("else")) branch(nullptr);
    expect("endif");
    expect("%}");
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
      if (is("(") || is("[")) fail(unsupported("a target in brackets"));
      loop.targets.push_back(expect_variable());
    } while (take(","));
    expect("in");
    loop.items = expression(true, false);
    if (take("if")) loop.condition = expression();
    if (is("recursive")) fail(unsupported("a recursive loop"));
    expect("%}");
    ++loops_;
    loop.body = body({"else", "endfor"});
    --loops_;
    if (take("else")) fail(unsupported("{% else %} of a loop"));
    ++at_;
    expect("%}");
    return [loop = std::move(loop)](Interpreter& run, std::string& out) { return run.execute(loop, out); };
  }

  Execute set_statement() {
    std::string target = expect_variable();
    if (take(".")) target.append(1, '.').append(expect_name());
    if (is(",")) fail(unsupported("setting several names at once"));
    if (is("|")) fail(unsupported("a filter of a set block"));
    if (take("=")) {
      Expression value = expression(true);
      expect("%}");
      return always(
          [target, value](Interpreter& run, std::string&) { run.assign(target, run.evaluate(value)); });
    }
    return always([target, body = block("endset")](Interpreter& run, std::string&) {
      std::string text;
      run.execute_inside(body, text);
      run.assign(target, run.made(std::move(text)));
    });
  }

  Execute macro_statement() {
    if (scopes_ + loops_ != 0) fail(unsupported("a macro in a loop or another block"));
    Macro macro{expect_variable(), {}, {}, {}};
    expect("(");
    list(")", [&] {
      macro.parameters.push_back(expect_variable());
      Expression fallback = take("=") ? expression() : nullptr;
      if (fallback == nullptr && !macro.defaults.empty() && macro.defaults.back() != nullptr) {
        fail("a parameter without default follows one with a default");
      }
      macro.defaults.push_back(std::move(fallback));
    });
    const MayNeverRun inside(*this);
    macro.body = block("endmacro");
    return always([macro = std::move(macro)](Interpreter& run, std::string&) { run.define(macro); });
  }

  // Expressions. Each function returns what evaluates the part of the template that it has read.

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
    const auto one = [&] { return with_condition ? condition() : operation(); };
    Expression first = one();
    if (!with_tuple || !is(",")) return first;
    std::vector<Expression> all = {std::move(first)};
    while (take(",")) {
      if (is("%}") || is("}}") || is(")")) break;
      all.push_back(one());
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
    Expression value = operation();
    while (take("if")) {
      unsupported_.resize(before);  // The value may never be asked for.
      Expression test = operation();
      const MayNeverRun inside(*this);
      Expression otherwise = take("else") ? expression() : nullptr;
      value = node({value, test, otherwise}, [value, test, otherwise](Interpreter& run) -> Value {
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
    const bool not_in = is("not") && peek().kind == Kind::kName && peek().text == "in";
    std::string text = not_in ? "not in" : current().text;
    const auto* known =
        std::find_if(std::begin(kBinds), std::end(kBinds), [&](const auto& b) { return b.first == text; });
    return {std::move(text), known == std::end(kBinds) ? 0 : known->second};
  }

  // Operands between operators that bind at least so strongly.
  Expression operation(int least = 1) {
    const Level level(*this);
    Expression left = least <= kNot && take("not") ? inverse(operation(kNot)) : unary(true);
    bool compared = false;
    for (auto [op, binds] = binary_operator(); binds >= least; std::tie(op, binds) = binary_operator()) {
      at_ += op == "not in" ? 2 : 1;
      if (binds == kRefused) left = refused(named("operator", op));
      const Expression right = operation(binds + 1);
      if (binds == kComparison && std::exchange(compared, true)) {
        fail(unsupported("a comparison of more than two values"));
      }
      if (binds != kRefused) left = binary(op, left, right);
    }
    return left;
  }

  [[nodiscard]] Expression binary(const std::string& op, const Expression& a, const Expression& b) const {
    if (op == "and" || op == "or") {
      return node({a, b}, [a, b, ends = op == "or"](Interpreter& run) {
        Value left = run.evaluate(a);
        return left.truthy() == ends ? left : run.evaluate(b);
      });
    }
    return node({a, b}, [a, b, op](Interpreter& run) {
      const Value left = run.evaluate(a);
      return operate(run, op, left, run.evaluate(b));
    });
  }
  [[nodiscard]] Expression inverse(const Expression& value) const {
    return node({value}, [value](Interpreter& run) { return !run.evaluate(value).truthy(); });
  }

  Expression unary(bool with_filter) {
    const Level level(*this);
    Expression value;
    if (is("-") || is("+")) {
      const std::string op = tokens_[at_++].text;
      value = binary(op, constant(std::int64_t{0}), unary(false));
    } else {
      value = primary();
    }
    value = postfix(std::move(value));
    while (with_filter && (is("|") || is("is"))) {
      value = take("|") ? filter(value) : test(value);
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
    if (take("(")) {
      if (take(")")) return sequence({}, List::Kind::kTuple);
      Expression inner = expression(true);
      expect(")");
      return inner;
    }
    if (take("{")) return dict();
    if (take("[")) {
      std::vector<Expression> items;
      list("]", [&] { items.push_back(expression()); });
      return sequence(items, List::Kind::kList);
    }
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
    if (!take("(")) return node({}, [text](Interpreter& run) { return run.name(text); });
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
    if (!take(".")) fail(unsupported("loop as a value of its own"));
    const std::string attribute = expect_name();
    for (const auto& [known, read] : kAttributes) {
      if (attribute == known) return node({}, [read = read](Interpreter& run) { return read(run.loop()); });
    }
    if (take("(")) arguments();
    return refused(fmt::format("loop.{}", base::printable(attribute, 40)));
  }

  // What stands between commas up to `close`; `read` reads one of it.
  template <typename Read>
  void list(std::string_view close, Read read) {
    for (bool first = true; !take(close); first = false) {
      if (!first) expect(",");
      if (!first && take(close)) return;
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
      if (take(".")) {
        value = attribute(value);
      } else if (take("[")) {
        value = subscript(value);
      } else if (is("(")) {
        fail(unsupported("calling anything but a macro, a function or a method"));
      } else {
        return value;
      }
    }
  }

  [[nodiscard]] Expression item(const Expression& object, const Expression& key) const {
    return node({object, key}, [object, key](Interpreter& run) {
      const Value value = run.evaluate(object);
      return get_item(run, value, run.evaluate(key));
    });
  }

  Expression attribute(const Expression& object) {
    if (is(Kind::kInteger)) return item(object, integer());  // messages.0
    const std::string name = expect_name();
    if (!take("(")) {
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
    Expression begin = is(":") ? nullptr : expression();
    if (take("]")) return item(object, begin);
    if (is(",")) fail(unsupported("a tuple in brackets"));
    expect(":");
    Expression end = is(":") || is("]") ? nullptr : expression();
    const bool reversed = take(":");
    const bool is_one = !reversed || (take("-") && is(Kind::kInteger) && tokens_[at_++].text == "1");
    if (!is_one || !is("]") || (reversed && (begin != nullptr || end != nullptr))) {
      fail(unsupported("a step in a slice other than [::-1]"));
    }
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
    list(")", [&] {
      if (is("*") || is("**")) fail(unsupported("\"*\" in front of an argument"));
      if (is(Kind::kName) && peek().kind == Kind::kMark && peek().text == "=") {
        out.names.push_back(expect_name());
        ++at_;
      } else if (!out.names.empty()) {
        fail("a positional argument follows a named one");
      }
      out.values.push_back(expression());
    });
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
    const std::string name = expect_name();
    return built_in("filter", find_filter(name), name, input, take("(") ? arguments() : CallArguments{});
  }

  Expression test(const Expression& input) {
    static constexpr std::string_view kNoArgument[] = {"else", "or", "and", "is"};
    ++at_;
    const bool negated = take("not");
    const std::string name = expect_name();
    CallArguments given;
    if (take("(")) {
      given = arguments();
    } else if (is(Kind::kString) || is(Kind::kInteger) || is("[") || is("{") ||
               (is(Kind::kName) && !holds(kNoArgument, current().text))) {
      given.values.push_back(postfix(primary()));
    }
    if (is("is")) fail("tests cannot be chained with \"is\"");
    Expression out = built_in("test", find_test(name), name, input, given);
    return negated ? inverse(out) : out;
  }

  const std::string& name_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int level_ = 0;
  int loops_ = 0;   // Around the current token, up to the next block that a loop cannot be left from.
  int scopes_ = 0;  // Such blocks.
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
