// Fuzzes the interpreter of chat templates with templates that a grammar writes: the bytes of an input choose among
// its rules, so that nearly all of them parse and run. Anything but a tte::Error is a finding.
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "text/jinja/template.h"
#include "tte/error.h"

namespace {

using tte::text::jinja::Dict;
using tte::text::jinja::List;
using tte::text::jinja::None;
using tte::text::jinja::Value;

class Grammar {
 public:
  explicit Grammar(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::string body(int depth) {
    std::string out;
    for (int i = 1 + number(3); i > 0; --i) out += statement(depth);
    return out;
  }

 private:
  int number(int limit) {
    if (at_ >= bytes_.size()) return 0;
    return bytes_[at_++] % limit;
  }
  std::string_view one_of(std::span<const std::string_view> words) {
    return words[static_cast<std::size_t>(number(static_cast<int>(words.size())))];
  }
  [[nodiscard]] bool over(int depth) const { return depth <= 0 || at_ >= bytes_.size(); }

  std::string name() {
    static constexpr std::string_view kNames[] = {"x", "y", "ns", "messages", "m", "f", "texts", "nothing"};
    return std::string(one_of(kNames));
  }
  std::string attribute() {
    static constexpr std::string_view kAttributes[] = {"role", "content", "a",    "b",        "items",
                                                       "get",  "x",       "type", "__class__"};
    return std::string(one_of(kAttributes));
  }
  std::string method() {
    static constexpr std::string_view kMethods[] = {"items",    "keys",  "values",  "get",   "upper",
                                                    "title",    "split", "replace", "strip", "startswith",
                                                    "endswith", "find",  "rfind",   "lstrip"};
    return std::string(one_of(kMethods));
  }
  std::string loop() {
    static constexpr std::string_view kAttributes[] = {"index", "index0",   "first",
                                                       "last",  "previtem", "nextitem"};
    return "loop." + std::string(one_of(kAttributes));
  }
  std::string literal() {
    static constexpr std::string_view kLiterals[] = {"0",
                                                     "1",
                                                     "-1",
                                                     "'a'",
                                                     "'A b\\n c'",
                                                     "''",
                                                     "'ß☃😀'",
                                                     "none",
                                                     "true",
                                                     "[]",
                                                     "{}",
                                                     "'a,b'",
                                                     "9223372036854775807",
                                                     "[3, 1, 2]",
                                                     "['b', 'a', 'B']",
                                                     "{'a': 1, 'b': [2]}",
                                                     "(1, 'x')",
                                                     "range(3)",
                                                     "namespace(a=1)",
                                                     "'upper'",
                                                     "'a'"};
    return std::string(one_of(kLiterals));
  }
  std::string arguments(int depth) {
    static constexpr std::string_view kNames[] = {
        "attribute=", "default=", "indent=", "sort_keys=", "boolean="};
    std::string out;
    for (int i = number(3); i > 0; --i) out += (out.empty() ? "" : ", ") + expression(depth - 1);
    if (number(5) == 0)
      out += (out.empty() ? "" : ", ") + std::string(one_of(kNames)) + expression(depth - 1);
    return out;
  }
  std::string filter(int depth) {
    static constexpr std::string_view kFilters[] = {"trim",
                                                    "length",
                                                    "default",
                                                    "string",
                                                    "upper",
                                                    "lower",
                                                    "title",
                                                    "capitalize",
                                                    "replace",
                                                    "join",
                                                    "list",
                                                    "first",
                                                    "last",
                                                    "items",
                                                    "dictsort",
                                                    "map",
                                                    "select",
                                                    "reject",
                                                    "selectattr",
                                                    "rejectattr",
                                                    "int",
                                                    "tojson",
                                                    "safe",
                                                    "map('upper')",
                                                    "map(attribute='content')",
                                                    "selectattr('role')",
                                                    "selectattr('a', 'equalto', 1)",
                                                    "select('string')",
                                                    "map('map', 'string')"};
    const std::string_view chosen = one_of(kFilters);
    std::string out(chosen);
    return chosen.ends_with(')') || number(2) == 0 ? out : out + "(" + arguments(depth) + ")";
  }
  std::string expression(int depth) {
    static constexpr std::string_view kOperators[] = {" + ",  " - ",      " % ",   " ~ ",  " == ", " < ",
                                                      " in ", " not in ", " and ", " or ", " != ", " >= "};
    static constexpr std::string_view kTests[] = {"defined",     "none",      "string", "mapping",
                                                  "iterable",    "sequence",  "number", "true",
                                                  "in [1, 'a']", "equalto 1", "ne 2"};
    if (over(depth)) return number(2) == 0 ? literal() : name();
    switch (number(12)) {
      case 0:
        return literal();
      case 1:
        return name();
      case 2:
        return expression(depth - 1) + "." + attribute();
      case 3:
        return number(6) == 0 ? loop()
                              : expression(depth - 1) + "." + method() + "(" + arguments(depth) + ")";
      case 4:
        return expression(depth - 1) + "[" + expression(depth - 1) + "]";
      case 5:
        return expression(depth - 1) + "[" + expression(depth - 1) + ":" + expression(depth - 1) +
               (number(3) == 0 ? ":" + expression(depth - 1) : "") + "]";
      case 6:
      case 7:
        return "(" + expression(depth - 1) + ")|" + filter(depth);
      case 8:
        return "(" + expression(depth - 1) + std::string(one_of(kOperators)) + expression(depth - 1) + ")";
      case 9:
        return "(" + expression(depth - 1) + " is " + (number(3) == 0 ? "not " : "") +
               std::string(one_of(kTests)) + ")";
      case 10:
        return "[" + expression(depth - 1) + ", " + expression(depth - 1) + "]";
      default:
        return "(" + expression(depth - 1) + " if " + expression(depth - 1) + " else " +
               expression(depth - 1) + ")";
    }
  }
  std::string statement(int depth) {
    if (over(depth)) return "{{ " + expression(1) + " }}";
    switch (number(10)) {
      case 0:
        return " text \n";
      case 1:
      case 2:
        return "{{ " + expression(depth) + " }}";
      case 3:
        return "{%- for " + name() + " in " + expression(depth) +
               (number(3) == 0 ? " if " + expression(1) : "") + " %}" + body(depth - 1) + "{% endfor %}";
      case 4:
        return "{% if " + expression(depth) + " %}" + body(depth - 1) + "{% else %}" + body(depth - 1) +
               "{% endif %}";
      case 5:
        return "{% set " + name() + " = " + expression(depth) + " %}";
      case 6:
        return "{% set ns." + attribute() + " = " + expression(depth) + " %}";
      case 7:
        return "{% macro f(x, y=" + expression(1) + ") %}" + body(depth - 1) + "{% endmacro %}{{ f(" +
               arguments(1) + ") }}";
      case 8:
        return "{% set " + name() + " %}" + body(depth - 1) + "{% endset %}";
      default:
        return "{% for x in range(60) %}" + body(depth - 1) + "{% endfor %}";
    }
  }

  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

Value message(const char* role, Value content) {
  Dict out;
  out.set("role", role);
  out.set("content", std::move(content));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string source = "{% set ns = namespace(a=[1]) %}" + Grammar({data, size}).body(4);
  try {
    Dict part;
    part.set("type", "text");
    part.set("text", "A part");
    const std::string text =
        tte::text::jinja::Template(source, "fuzz")
            .render({{"messages",
                      List{message("user", "Hello, ß"), message("assistant", List{Value(part), Value("x")})}},
                     {"texts", List{Value("b"), Value("A"), Value("a")}},
                     {"y", None{}}});
    if (tte::base::find_invalid(text) != std::string::npos) __builtin_trap();
  } catch (const tte::Error&) {
  }
  return 0;
}
