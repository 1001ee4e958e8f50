// The tests of chat templates: x is defined, x is string, ...
#include <fmt/core.h>

#include <map>

#include "base/printable.h"
#include "text/jinja/call.h"
#include "text/jinja/strings.h"

namespace tte::text::jinja {
namespace {

bool is_number(const Value& value) {
  double number = 0;
  return value.number(number);
}

using Test = bool (*)(const Call&);

template <char kOp0, char kOp1>
bool t_compare(const Call& c) {
  std::string op(1, kOp0);
  if (kOp1 != ' ') op += kOp1;
  return compares(c.run, op, c.input, c.need(0, "other"), c.line);
}
std::int64_t whole_input(const Call& c) {
  std::int64_t value = 0;
  if (!c.input.integer(value)) c.fail(fmt::format("a {} is not an int", c.input.type_name()));
  return value;
}

const std::map<std::string_view, Test>& tests() {
  static const std::map<std::string_view, Test> all = {
      {"defined", [](const Call& c) { return !c.input.is_undefined(); }},
      {"undefined", [](const Call& c) { return c.input.is_undefined(); }},
      {"none", [](const Call& c) { return c.input.is_none(); }},
      {"string", [](const Call& c) { return c.input.text() != nullptr; }},
      {"mapping", [](const Call& c) { return c.input.dict() != nullptr && !c.input.dict()->is_namespace; }},
      {"iterable",
       [](const Call& c) {
         const bool is_dict = c.input.dict() != nullptr && !c.input.dict()->is_namespace;
         return c.input.text() != nullptr || c.input.list() != nullptr || is_dict || c.input.is_undefined();
       }},
      {"sequence",
       [](const Call& c) {
         const bool is_dict = c.input.dict() != nullptr && !c.input.dict()->is_namespace;
         return c.input.text() != nullptr || c.input.list() != nullptr || is_dict || c.input.is_undefined();
       }},
      {"number", [](const Call& c) { return is_number(c.input); }},
      {"integer", [](const Call& c) { return c.input.as<std::int64_t>() != nullptr; }},
      {"float", [](const Call& c) { return c.input.as<double>() != nullptr; }},
      {"boolean", [](const Call& c) { return c.input.as<bool>() != nullptr; }},
      {"true", [](const Call& c) { return c.input.as<bool>() != nullptr && *c.input.as<bool>(); }},
      {"false", [](const Call& c) { return c.input.as<bool>() != nullptr && !*c.input.as<bool>(); }},
      {"callable", [](const Call& c) { return c.input.callable() != nullptr; }},
      {"lower", [](const Call& c) { return lower(c.text()) == c.text() && upper(c.text()) != c.text(); }},
      {"upper", [](const Call& c) { return upper(c.text()) == c.text() && lower(c.text()) != c.text(); }},
      {"odd", [](const Call& c) { return whole_input(c) % 2 != 0; }},
      {"even", [](const Call& c) { return whole_input(c) % 2 == 0; }},
      {"divisibleby",
       [](const Call& c) {
         const std::int64_t by = c.integer(0, "num", 0);
         if (by == 0) c.fail("a number is divided by zero");
         return by == -1 || whole_input(c) % by == 0;
       }},
      {"sameas",
       [](const Call& c) {
         return std::string_view(c.input.type_name()) == c.need(0, "other").type_name() &&
                c.run.same(c.input, c.need(0, "other"));
       }},
      {"in", [](const Call& c) { return compares(c.run, "in", c.input, c.need(0, "seq"), c.line); }},
      {"equalto", t_compare<'=', '='>},
      {"eq", t_compare<'=', '='>},
      {"==", t_compare<'=', '='>},
      {"ne", t_compare<'!', '='>},
      {"!=", t_compare<'!', '='>},
      {"lt", t_compare<'<', ' '>},
      {"lessthan", t_compare<'<', ' '>},
      {"<", t_compare<'<', ' '>},
      {"le", t_compare<'<', '='>},
      {"<=", t_compare<'<', '='>},
      {"gt", t_compare<'>', ' '>},
      {"greaterthan", t_compare<'>', ' '>},
      {">", t_compare<'>', ' '>},
      {"ge", t_compare<'>', '='>},
      {">=", t_compare<'>', '='>},
  };
  return all;
}

}  // namespace

bool call_test(Interpreter& run, const std::string& name, const Value& input, const Arguments& arguments,
               int line) {
  const auto known = tests().find(name);
  if (known == tests().end())
    run.fail(line, fmt::format("the test {} is not supported by tte", base::printable(name)));
  run.step();
  return known->second({run, name, input, arguments, line});
}

}  // namespace tte::text::jinja
