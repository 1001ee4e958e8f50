// The operators of chat templates, with Python's values.
#include <algorithm>
#include <cmath>

#include "text/jinja/interpreter.h"

namespace tte::text::jinja {
namespace {

constexpr std::int64_t kExact = std::int64_t{1} << 53;  // Whole numbers up to here are doubles.

std::int64_t whole(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &out);
  if (op == "-") overflow = __builtin_sub_overflow(a, b, &out);
  if (op == "*") overflow = __builtin_mul_overflow(a, b, &out);
  if (op == "//" || op == "%") {
    if (b == 0) throw Failure("a number is divided by zero");
    if (b == -1) return op == "%" ? 0 : whole("-", 0, a);
    const std::int64_t remainder = a % b;
    const bool down = remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds down.
    out = op == "%" ? remainder + (down ? b : 0) : a / b - (down ? 1 : 0);
  }
  if (op == "**") {
    if (b > 64 && a != 0 && a != 1) refuse(fmt::format("a power of {}", b));
    out = 1;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(b, 64) && !overflow; ++i) {
      overflow = __builtin_mul_overflow(out, a, &out);
    }
  }
  if (overflow) refuse(fmt::format("a number as large as {} {} {}", a, op, b));
  return out;
}

double real(const std::string& op, double x, double y) {
  if (op == "+") return x + y;
  if (op == "-") return x - y;
  if (op == "*") return x * y;
  if (op == "**") {
    if (x == 0 && y < 0) throw Failure("0 has no negative power");
    if (x < 0 && y != std::floor(y)) refuse("a broken power of a negative number");
    const double power = std::pow(x, y);
    if (std::isinf(power) && std::isfinite(x) && std::isfinite(y)) throw Failure("a power is too large");
    return power;
  }
  if (y == 0) throw Failure("a number is divided by zero");
  if (op == "/") return x / y;
  // As Python's float_divmod.
  double rest = std::fmod(x, y);
  double quotient = (x - rest) / y;
  if (rest == 0) {
    rest = std::copysign(0.0, y);
  } else if ((y < 0) != (rest < 0)) {
    rest += y;
    quotient -= 1;
  }
  if (op == "%") return rest;
  if (quotient == 0) return std::copysign(0.0, x / y);
  const double down = std::floor(quotient);
  return quotient - down > 0.5 ? down + 1 : down;
}

Value numbers(const std::string& op, const Value& a, const Value& b) {
  std::int64_t i = 0;
  std::int64_t j = 0;
  if (a.integer(i) && b.integer(j)) {
    if (op != "/" && (op != "**" || j >= 0)) return whole(op, i, j);
    if (std::max({i, j, -kExact}) > kExact || std::min({i, j, kExact}) < -kExact) {
      refuse(fmt::format("{} {} {}", i, op, j));
    }
  }
  double x = 0;
  double y = 0;
  if (!a.number(x) || !b.number(y)) refuse(fmt::format("{} {} {}", a.type_name(), op, b.type_name()));
  const double out = real(op, x, y);
  if (std::isnan(out)) refuse("a result that is not a number");
  return out;
}

Value repeat(Interpreter& run, const Value& what, std::int64_t times) {
  const auto n = static_cast<std::size_t>(std::max<std::int64_t>(times, 0));
  if (const auto* text = what.text()) {
    std::string out;
    if (text->empty() || n == 0) return out;
    if (n > kMaxText / text->size())
      throw Failure(fmt::format("a text becomes longer than {} bytes", kMaxText));
    for (std::size_t i = 0; i < n; ++i) out += *text;
    return run.made(std::move(out));
  }
  List out;
  out.kind = what.list()->kind;
  if (what.list()->empty()) return out;
  run.budget.take(n, what.list()->size() * sizeof(Value));
  for (std::size_t i = 0; i < n; ++i) out.insert(out.end(), what.list()->begin(), what.list()->end());
  return out;
}

const List* list_or_tuple(const Value& value) {
  const List* list = value.list();
  return list != nullptr && list->kind <= List::Kind::kTuple ? list : nullptr;
}

bool contains(Interpreter& run, const Value& item, const Value& container) {
  if (const auto* text = container.text()) {
    if (item.text() == nullptr) refuse(fmt::format("a {} in a str", item.type_name()));
    // In the worst case the item almost fits everywhere.
    run.budget.work(text->size() * std::min<std::size_t>(item.text()->size() + 1, 1 << 20), 4096);
    return text->find(*item.text()) != std::string::npos;
  }
  if (const auto* list = container.list()) {
    return std::any_of(list->begin(), list->end(),
                       [&](const Value& other) { return equal(item, other, run.budget); });
  }
  if (const auto* dict = container.dict()) {
    if (item.list() != nullptr || item.dict() != nullptr)
      refuse(fmt::format("a {} in a dict", item.type_name()));
    run.budget.step(1 + static_cast<std::int64_t>(dict->items.size() / 8));
    return item.text() != nullptr && dict->find(*item.text()) != nullptr;
  }
  if (!container.is_undefined()) refuse(fmt::format("\"in\" a {}", container.type_name()));
  return false;
}

}  // namespace

Value arithmetic(Interpreter& run, const std::string& op, const Value& a, const Value& b) {
  double number = 0;
  std::int64_t times = 0;
  if (a.number(number) && b.number(number)) return numbers(op, a, b);
  if (op == "%" && a.text() != nullptr) refuse("formatting with %");
  for (const Value* value : {&a, &b}) {
    if (const auto* undefined = value->as<Undefined>()) fail_undefined(*undefined);
  }
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) return run.made(*a.text() + *b.text());
  const List* left = list_or_tuple(a);
  const List* right = list_or_tuple(b);
  if (op == "+" && left != nullptr && right != nullptr && left->kind == right->kind) {
    List joined;
    joined.reserve(left->size() + right->size());
    joined.insert(joined.end(), left->begin(), left->end());
    joined.insert(joined.end(), right->begin(), right->end());
    joined.kind = left->kind;
    return run.made(std::move(joined));
  }
  if (op == "*" && (a.text() != nullptr || left != nullptr) && b.integer(times)) return repeat(run, a, times);
  if (op == "*" && (b.text() != nullptr || right != nullptr) && a.integer(times))
    return repeat(run, b, times);
  refuse(fmt::format("{} {} {}", a.type_name(), op, b.type_name()));
}

bool compares(Interpreter& run, const std::string& op, const Value& a, const Value& b) {
  if (op == "in") return contains(run, a, b);
  if (op == "not in") return !contains(run, a, b);
  if (op == "==") return equal(a, b, run.budget);
  if (op == "!=") return !equal(a, b, run.budget);
  const auto sign = order(a, b, run.budget);
  if (!sign) refuse(fmt::format("{} {} {}", a.type_name(), op, b.type_name()));
  if (op == "<") return *sign < 0;
  if (op == "<=") return *sign <= 0;
  if (op == ">") return *sign > 0;
  return *sign >= 0;
}

}  // namespace tte::text::jinja
