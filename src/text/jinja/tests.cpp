// The tests of chat templates: x is defined, x is string, ...
#include <cmath>

#include "base/printable.h"
#include "text/jinja/call.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

template <char kOp0, char kOp1 = ' '>
Value t_compare(const Call& c) {
  std::string op(1, kOp0);
  if (kOp1 != ' ') op += kOp1;
  return compares(c.run, op, c.input, *c.get(0));
}
// True of a list whose kind is at most `last`, a text, a dict or undefined.
bool is_sequence(const Value& value, List::Kind last) {
  return value.text() != nullptr || value.shared<const Markup>() != nullptr || value.dict() != nullptr ||
         value.is_undefined() || (value.list() != nullptr && value.list()->kind <= last);
}
Value t_iterable(const Call& c) {
  return is_sequence(c.input, List::Kind::kItems) || c.input.iterator() != nullptr;
}
Value t_number(const Call& c) {
  double number = 0;
  return c.input.number(number);
}
template <bool kValue>
Value t_bool(const Call& c) {
  return c.input.as<bool>() != nullptr && *c.input.as<bool>() == kValue;
}
template <std::int64_t kRest>
Value t_rest_of_two(const Call& c) {
  double number = 0;
  if (!c.input.number(number)) c.refuse_input();
  return compares(c.run, "==", arithmetic(c.run, "%", c.input, std::int64_t{2}), kRest);
}
Value t_divisible(const Call& c) {
  double number = 0;
  if (!c.input.number(number)) c.refuse_input();
  return compares(c.run, "==", arithmetic(c.run, "%", c.input, *c.get(0)), std::int64_t{0});
}
// Whether two values are one object is chance for all but these.
Value t_same(const Call& c) {
  const auto single = [](const Value& v) { return v.is_none() || v.as<bool>() != nullptr; };
  if (!single(c.input) && !single(*c.get(0))) c.refuse_argument(0);
  if (!single(c.input) || !single(*c.get(0))) return false;
  return c.input.is_none() == c.get(0)->is_none() && equal(c.input, *c.get(0), c.run.budget);
}

constexpr Builtin kTests[] = {
    {"defined", [](const Call& c) -> Value { return !c.input.is_undefined(); }},
    {"undefined", [](const Call& c) -> Value { return c.input.is_undefined(); }},
    {"none", [](const Call& c) -> Value { return c.input.is_none(); }},
    {"string",
     [](const Call& c) -> Value {
       return c.input.text() != nullptr || c.input.shared<const Markup>() != nullptr;
     }},
    {"mapping", [](const Call& c) -> Value { return c.input.dict() != nullptr; }},
    {"iterable", t_iterable},
    {"sequence", [](const Call& c) -> Value { return is_sequence(c.input, List::Kind::kRange); }},
    {"number", t_number},
    {"integer", [](const Call& c) -> Value { return c.input.as<std::int64_t>() != nullptr; }},
    {"float", [](const Call& c) -> Value { return c.input.as<double>() != nullptr; }},
    {"boolean", [](const Call& c) -> Value { return c.input.as<bool>() != nullptr; }},
    {"true", t_bool<true>},
    {"false", t_bool<false>},
    {"callable",
     [](const Call& c) -> Value { return c.input.function() != nullptr || c.input.is_undefined(); }},
    {"lower", [](const Call& c) -> Value { return is_cased(c.input_text(), false); }},
    {"upper", [](const Call& c) -> Value { return is_cased(c.input_text(), true); }},
    {"odd", t_rest_of_two<1>},
    {"even", t_rest_of_two<0>},
    {"divisibleby", t_divisible, {"num"}, 1, true},
    {"sameas", t_same, {"other"}, 1, true},
    {"in",
     [](const Call& c) -> Value { return compares(c.run, "in", c.input, *c.get(0)); },
     {"seq"},
     1,
     true},
    {"equalto", t_compare<'=', '='>, {"b"}, 1},
    {"eq", t_compare<'=', '='>, {"b"}, 1},
    {"==", t_compare<'=', '='>, {"b"}, 1},
    {"ne", t_compare<'!', '='>, {"b"}, 1},
    {"!=", t_compare<'!', '='>, {"b"}, 1},
    {"lt", t_compare<'<'>, {"b"}, 1},
    {"lessthan", t_compare<'<'>, {"b"}, 1},
    {"<", t_compare<'<'>, {"b"}, 1},
    {"le", t_compare<'<', '='>, {"b"}, 1},
    {"<=", t_compare<'<', '='>, {"b"}, 1},
    {"gt", t_compare<'>'>, {"b"}, 1},
    {"greaterthan", t_compare<'>'>, {"b"}, 1},
    {">", t_compare<'>'>, {"b"}, 1},
    {"ge", t_compare<'>', '='>, {"b"}, 1},
    {">=", t_compare<'>', '='>, {"b"}, 1},
};

}  // namespace

bool call_test(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments) {
  const Builtin* known = find_builtin(kTests, name);
  if (known == nullptr) refuse(fmt::format("the test {}", base::printable(name, 60)));
  return invoke(run, *known, input, arguments).truthy();
}

}  // namespace tte::text::jinja
