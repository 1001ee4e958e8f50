// Attributes, methods, operators and global functions of chat templates.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

#include "base/printable.h"
#include "text/jinja/callable.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/strings.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

List pair_of(const std::string& key, const Value& value) {
  List pair{Value(key), value};
  pair.is_tuple = true;
  return pair;
}

Value pairs_of(Interpreter& run, const Dict& dict) {
  List out;
  for (const auto& [key, value] : dict.items) out.push_back(run.made(pair_of(key, value)));
  return run.made(std::move(out));
}

// Undefined if a dict has no such method.
Value dict_method(const std::shared_ptr<Dict>& dict, const std::string& name) {
  if (name == "items") {
    return bound("dict.items",
                 [dict](Interpreter& run, const Arguments&, int) { return pairs_of(run, *dict); });
  }
  if (name == "keys" || name == "values") {
    return bound("dict." + name, [dict, keys = name == "keys"](Interpreter& run, const Arguments&, int) {
      List out;
      for (const auto& [key, value] : dict->items) out.push_back(keys ? Value(key) : value);
      return run.made(std::move(out));
    });
  }
  if (name == "get") {
    return bound("dict.get", [dict](Interpreter& run, const Arguments& a, int line) -> Value {
      const Value* key = a.get(0, "key");
      if (key == nullptr) run.fail(line, "get() has no argument");
      const Value* found = key->text() == nullptr ? nullptr : dict->find(*key->text());
      const Value* fallback = a.get(1, "default");
      return found != nullptr ? *found : fallback != nullptr ? *fallback : Value(None{});
    });
  }
  return Undefined{name};
}

Value list_method(const std::shared_ptr<const List>& list, const std::string& name) {
  if (name != "count" && name != "index") return Undefined{"list." + name};
  return bound("list." + name,
               [list, count = name == "count"](Interpreter& run, const Arguments& a, int line) {
                 if (a.positional.empty()) run.fail(line, "argument 1 is missing");
                 run.step(static_cast<std::int64_t>(list->size()));
                 std::int64_t n = 0;
                 for (std::size_t i = 0; i < list->size(); ++i) {
                   if (!run.same((*list)[i], a.positional.front())) continue;
                   if (!count) return Value(static_cast<std::int64_t>(i));
                   ++n;
                 }
                 if (!count) run.fail(line, "index() finds nothing");
                 return Value(n);
               });
}

Value loop_attribute(const std::shared_ptr<Loop>& loop, const std::string& name) {
  const auto index = static_cast<std::int64_t>(loop->index);
  const auto size = static_cast<std::int64_t>(loop->items->size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return size - index;
  if (name == "revindex0") return size - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == size;
  if (name == "length") return size;
  // Depth counts the calls of recursive loops, which there are none of.
  if (name == "depth") return std::int64_t{1};
  if (name == "depth0") return std::int64_t{0};
  if (name == "previtem")
    return index == 0 ? Value(Undefined{"loop.previtem"}) : (*loop->items)[loop->index - 1];
  if (name == "nextitem") {
    return index + 1 == size ? Value(Undefined{"loop.nextitem"}) : (*loop->items)[loop->index + 1];
  }
  if (name == "cycle") {
    return bound("loop.cycle", [loop](Interpreter& run, const Arguments& a, int line) {
      if (a.positional.empty()) run.fail(line, "cycle() has no arguments");
      return a.positional[loop->index % a.positional.size()];
    });
  }
  if (name == "changed") {
    return bound("loop.changed", [loop](Interpreter& run, const Arguments& a, int) {
      Value now = run.made(List(a.positional));
      if (loop->last_changed != nullptr && run.same(*loop->last_changed, now)) return Value(false);
      loop->last_changed = std::make_shared<Value>(std::move(now));
      return Value(true);
    });
  }
  return Undefined{"loop." + name};
}

std::int64_t whole(Interpreter& run, const std::string& op, std::int64_t a, std::int64_t b, int line) {
  std::int64_t out = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &out);
  if (op == "-") overflow = __builtin_sub_overflow(a, b, &out);
  if (op == "*") overflow = __builtin_mul_overflow(a, b, &out);
  if (op == "//" || op == "%") {
    if (b == 0) run.fail(line, "a number is divided by zero");
    if (b == -1) return op == "%" ? 0 : whole(run, "-", 0, a, line);
    const std::int64_t remainder = a % b;
    const bool down = remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds down.
    out = op == "%" ? remainder + (down ? b : 0) : a / b - (down ? 1 : 0);
  }
  if (op == "**") {
    if (b < 0 || b > 64) run.fail(line, fmt::format("a power of {} is not supported by tte", b));
    out = 1;
    for (std::int64_t i = 0; i < b && !overflow; ++i) overflow = __builtin_mul_overflow(out, a, &out);
  }
  if (overflow) run.fail(line, fmt::format("{} {} {} is too large", a, op, b));
  return out;
}

Value repeat(Interpreter& run, const Value& what, std::int64_t times, int line) {
  const auto n = static_cast<std::size_t>(std::max<std::int64_t>(times, 0));
  const std::size_t size = what.text() != nullptr ? what.text()->size() : what.list()->size() * sizeof(Value);
  run.expect_room(line, n, size);
  if (const auto* text = what.text()) {
    std::string out;
    for (std::size_t i = 0; size != 0 && i < n; ++i) out += *text;
    return run.made(std::move(out));
  }
  List out;
  out.is_tuple = what.list()->is_tuple;
  for (std::size_t i = 0; size != 0 && i < n; ++i)
    out.insert(out.end(), what.list()->begin(), what.list()->end());
  return run.made(std::move(out));
}

bool contains(Interpreter& run, const Value& item, const Value& container, int line) {
  if (const auto* text = container.text()) {
    if (item.text() == nullptr) run.fail(line, fmt::format("a {} cannot be in a string", item.type_name()));
    run.scan(text->size(), item.text()->size());
    return text->find(*item.text()) != std::string::npos;
  }
  if (const auto* list = container.list()) {
    run.step(static_cast<std::int64_t>(list->size()));
    return std::any_of(list->begin(), list->end(), [&](const Value& other) { return run.same(item, other); });
  }
  if (const auto* dict = container.dict(); dict != nullptr && !dict->is_namespace) {
    run.step(static_cast<std::int64_t>(dict->items.size() / 8));
    return item.text() != nullptr && dict->find(*item.text()) != nullptr;
  }
  if (!container.is_undefined()) run.fail(line, fmt::format("nothing can be in a {}", container.type_name()));
  return false;
}

Value range(Interpreter& run, const Arguments& a, int line) {
  const bool one = a.positional.size() < 2;
  const std::int64_t first = integer_argument(run, a, 0, "start", 0, line);
  const std::int64_t begin = one ? 0 : first;
  const std::int64_t end = one ? first : integer_argument(run, a, 1, "stop", 0, line);
  const std::int64_t by = integer_argument(run, a, 2, "step", 1, line);
  if (by == 0) run.fail(line, "the step of a range is 0");
  const double count =
      std::ceil((static_cast<double>(end) - static_cast<double>(begin)) / static_cast<double>(by));
  if (count > static_cast<double>(Interpreter::kMaxRange)) {
    run.fail(line, fmt::format("a range has more than {} items", Interpreter::kMaxRange));
  }
  List out;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(count); ++i) out.emplace_back(begin + i * by);
  return run.made(std::move(out));
}

void fill(Interpreter& run, Dict& dict, const Arguments& a, int line) {
  const auto set = [&](const std::string& key, const Value& value) {
    run.step(1 + static_cast<std::int64_t>(dict.items.size()) / 16);
    dict.set(key, value);
  };
  for (const Value& source : a.positional) {
    if (const Dict* other = source.dict()) {
      for (const auto& [key, value] : other->items) set(key, value);
      continue;
    }
    for (const Value& pair : *run.items_of(source, line)) {
      if (pair.list() == nullptr || pair.list()->size() != 2 || pair.list()->front().text() == nullptr) {
        run.fail(line, "a dict is made of pairs of a string and a value");
      }
      set(*pair.list()->front().text(), pair.list()->back());
    }
  }
  for (const auto& [key, value] : a.named) set(key, value);
}

Value now(Interpreter& run, const Arguments& a, int line) {
  const std::string& format = needed_text(run, a, 0, line);
  if (format.empty()) return "";
  const std::time_t seconds = std::time(nullptr);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 1024> buffer{};
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0) run.fail(line, fmt::format("strftime_now({}) is too long", base::printable(format)));
  return run.made(std::string(buffer.data(), size));
}

}  // namespace

Value bound(std::string name, Method method) {
  auto callable = std::make_shared<Callable>();
  callable->name = std::move(name);
  callable->call = std::move(method);
  return std::shared_ptr<const Callable>(std::move(callable));
}

// Argument `index` as a string; null if it is absent or None.
const std::string* text_argument(Interpreter& run, const Arguments& arguments, std::size_t index,
                                 const char* name, int line) {
  const Value* value = arguments.get(index, name);
  if (value == nullptr || value->is_none()) return nullptr;
  if (value->text() == nullptr) {
    run.fail(line, fmt::format("argument {} is a {}, not a string", index + 1, value->type_name()));
  }
  return value->text();
}

const std::string& needed_text(Interpreter& run, const Arguments& arguments, std::size_t index, int line) {
  const std::string* text = text_argument(run, arguments, index, "", line);
  if (text == nullptr) run.fail(line, fmt::format("argument {} is missing or None", index + 1));
  return *text;
}

std::int64_t integer_argument(Interpreter& run, const Arguments& arguments, std::size_t index,
                              const char* name, std::int64_t fallback, int line) {
  const Value* value = arguments.get(index, name);
  if (value == nullptr) return fallback;
  std::int64_t out = 0;
  if (!value->integer(out)) {
    run.fail(line, fmt::format("argument {} is a {}, not an int", index + 1, value->type_name()));
  }
  return out;
}

Value get_attribute(Interpreter& run, const Value& object, const std::string& name, int line) {
  if (const auto* undefined = object.as<Undefined>()) {
    run.fail(line, fmt::format("{} is not defined, so it has no attribute {}",
                               base::printable(undefined->name), name));
  }
  if (name.starts_with("__")) run.fail(line, fmt::format("the attribute {} is not allowed", name));
  if (const auto* text = object.as<std::shared_ptr<const std::string>>()) return string_method(*text, name);
  if (const auto* list = object.as<std::shared_ptr<const List>>()) return list_method(*list, name);
  if (const auto* loop = object.as<std::shared_ptr<Loop>>()) return loop_attribute(*loop, name);
  if (const auto* dict = object.as<std::shared_ptr<Dict>>()) {
    // A method hides a key, as in Jinja.
    if (!(*dict)->is_namespace) {
      if (Value method = dict_method(*dict, name); !method.is_undefined()) return method;
    }
    if (const Value* value = (*dict)->find(name)) return *value;
  }
  return Undefined{fmt::format("the attribute {} of a {}", name, object.type_name())};
}

Value get_item(Interpreter& run, const Value& object, const Value& key, int line) {
  if (const auto* undefined = object.as<Undefined>()) {
    run.fail(line, fmt::format("{} is not defined, so it has no items", base::printable(undefined->name)));
  }
  std::int64_t index = 0;
  if (key.integer(index)) {
    const auto within = [&](std::int64_t size) {
      if (index < 0) index += size;
      return index >= 0 && index < size;
    };
    if (const auto* list = object.list()) {
      if (within(static_cast<std::int64_t>(list->size()))) return (*list)[static_cast<std::size_t>(index)];
    } else if (const auto* text = object.text()) {
      run.scan(text->size(), 64);
      const auto parts = characters(*text);
      if (within(static_cast<std::int64_t>(parts.size()))) {
        return run.made(std::string(parts[static_cast<std::size_t>(index)]));
      }
    }
    return Undefined{fmt::format("item {} of a {}", index, object.type_name())};
  }
  if (key.text() == nullptr) return Undefined{fmt::format("an item of a {}", object.type_name())};
  if (const auto* dict = object.dict()) {
    if (const Value* value = dict->find(*key.text())) return *value;
  }
  return get_attribute(run, object, *key.text(), line);
}

Value arithmetic(Interpreter& run, const std::string& op, const Value& a, const Value& b, int line) {
  std::int64_t i = 0;
  std::int64_t j = 0;
  double x = 0;
  double y = 0;
  const bool whole_numbers = a.integer(i) && b.integer(j);
  if (whole_numbers && op != "/") return whole(run, op, i, j, line);
  if (a.number(x) && b.number(y)) {
    if (op == "+") return x + y;
    if (op == "-") return x - y;
    if (op == "*") return x * y;
    if (op == "**") return std::pow(x, y);
    if (y == 0) run.fail(line, "a number is divided by zero");
    if (op == "/") return x / y;
    if (op == "//") return std::floor(x / y);
    return x - y * std::floor(x / y);
  }
  if (op == "+" && a.text() != nullptr && b.text() != nullptr) {
    run.expect_room(line, 1, a.text()->size() + b.text()->size());
    return run.made(*a.text() + *b.text());
  }
  if (op == "+" && a.list() != nullptr && b.list() != nullptr && a.list()->is_tuple == b.list()->is_tuple) {
    List joined = *a.list();
    joined.insert(joined.end(), b.list()->begin(), b.list()->end());
    return run.made(std::move(joined));
  }
  if (op == "*") {
    if ((a.text() != nullptr || a.list() != nullptr) && b.integer(j)) return repeat(run, a, j, line);
    if ((b.text() != nullptr || b.list() != nullptr) && a.integer(i)) return repeat(run, b, i, line);
  }
  for (const Value* value : {&a, &b}) {
    if (const auto* undefined = value->as<Undefined>()) {
      run.fail(line, fmt::format("{} is not defined", base::printable(undefined->name)));
    }
  }
  run.fail(line, fmt::format("{} {} {} is not supported by tte", a.type_name(), op, b.type_name()));
}

bool compares(Interpreter& run, const std::string& op, const Value& a, const Value& b, int line) {
  if (op == "in") return contains(run, a, b, line);
  if (op == "not in") return !contains(run, a, b, line);
  if (a.text() != nullptr) run.scan(a.text()->size());
  if (a.list() != nullptr) run.step(static_cast<std::int64_t>(a.list()->size()));
  if (op == "==") return run.same(a, b);
  if (op == "!=") return !run.same(a, b);
  double x = 0;
  double y = 0;
  if (a.text() != nullptr && b.text() != nullptr) {
    const int order = a.text()->compare(*b.text());
    x = order < 0 ? -1 : order > 0 ? 1 : 0;
  } else if (!a.number(x) || !b.number(y)) {
    run.fail(line, fmt::format("{} {} {} cannot be compared", a.type_name(), op, b.type_name()));
  }
  if (op == "<") return x < y;
  if (op == "<=") return x <= y;
  if (op == ">") return x > y;
  return x >= y;
}

std::vector<std::pair<std::string, Value>> global_functions() {
  std::vector<std::pair<std::string, Value>> out;
  const auto add = [&](const char* name, Method method) {
    out.emplace_back(name, bound(name, std::move(method)));
  };
  add("range", range);
  add("dict", [](Interpreter& run, const Arguments& a, int line) -> Value {
    auto dict = std::make_shared<Dict>();
    fill(run, *dict, a, line);
    return dict;
  });
  add("namespace", [](Interpreter& run, const Arguments& a, int line) -> Value {
    auto dict = run.make_namespace();
    fill(run, *dict, a, line);
    return dict;
  });
  add("raise_exception", [](Interpreter&, const Arguments& a, int) -> Value {
    const std::string message = a.positional.empty() ? "" : a.positional.front().str();
    throw InputError(
        fmt::format("The chat template refuses these messages: {}", base::printable(message, 500)));
  });
  add("strftime_now", now);
  return out;
}

}  // namespace tte::text::jinja
