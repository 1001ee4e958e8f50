// Attributes, methods and global functions of chat templates.
#include <algorithm>
#include <array>
#include <ctime>

#include "base/printable.h"
#include "text/jinja/call.h"
#include "text/jinja/strings.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text::jinja {
namespace {

// What else Python's objects have, after a space each.
constexpr std::string_view kOtherOfStr =
    " casefold center encode expandtabs format format_map index isascii isdecimal isidentifier isprintable "
    "istitle ljust maketrans partition rindex rjust rpartition swapcase translate zfill ";
constexpr std::string_view kOtherOfList = " copy ";
constexpr std::string_view kOtherOfRangeAndViews = " start stop step count index mapping isdisjoint ";
constexpr std::string_view kOtherOfDict = " copy fromkeys ";
constexpr std::string_view kOtherOfNumber =
    " as_integer_ratio bit_count bit_length conjugate denominator from_bytes fromhex hex imag is_integer "
    "numerator real to_bytes ";
// What would change a dict, which the sandbox does not allow: undefined, and hides a key of that name.
constexpr std::string_view kForbiddenOfDict = " clear pop popitem setdefault update ";

bool is_listed(std::string_view words, std::string_view name) {
  return words.find(fmt::format(" {} ", name)) != std::string_view::npos;
}

Value list_of(const Call& c, const std::vector<std::string_view>& parts) {
  List out;
  c.run.budget.take(parts.size(), sizeof(Value));
  for (const std::string_view part : parts) out.push_back(c.run.made(std::string(part)));
  return out;
}
// Before `what` is looked for: in the worst case it almost fits everywhere.
void pay_for_search(const Call& c, const std::string& what) {
  c.run.budget.work(c.input.text()->size() * std::min<std::size_t>(what.size() + 1, 1 << 20), 4096);
}

template <bool kLeft, bool kRight>
Value m_strip(const Call& c) {
  return c.run.made(std::string(strip(*c.input.text(), c.text_or_none(0), kLeft, kRight)));
}
template <std::string (*kFunction)(std::string_view)>
Value m_case(const Call& c) {
  c.run.budget.work(c.input.text()->size(), 16);
  return c.run.made(kFunction(*c.input.text()));
}
template <bool kRight>
Value m_split(const Call& c) {
  const std::string* separator = c.text_or_none(0);
  if (separator != nullptr && separator->empty()) throw Failure("the separator of split() is empty");
  if (separator != nullptr) pay_for_search(c, *separator);
  return list_of(c, split(c.run.budget, *c.input.text(), separator, c.integer(1, -1), kRight));
}
Value m_split_lines(const Call& c) {
  if (c.get(0) != nullptr && c.get(0)->as<bool>() == nullptr) c.refuse_argument(0);
  return list_of(c, split_lines(c.run.budget, *c.input.text(), c.flag(0)));
}
template <bool kStart>
Value m_affix(const Call& c) {
  const auto one = [&](const Value& affix) {
    if (affix.text() == nullptr) refuse(fmt::format("{} with a {}", c.name, affix.type_name()));
    return kStart ? c.input.text()->starts_with(*affix.text()) : c.input.text()->ends_with(*affix.text());
  };
  const List* several = c.get(0)->list();
  if (several == nullptr) return one(*c.get(0));
  if (several->kind != List::Kind::kTuple) c.refuse_argument(0);
  c.run.budget.step(static_cast<std::int64_t>(several->size()));
  return std::any_of(several->begin(), several->end(), one);
}
template <bool kLast>
Value m_find(const Call& c) {
  const std::string& s = *c.input.text();
  pay_for_search(c, c.text(0));
  const std::size_t at = kLast ? s.rfind(c.text(0)) : s.find(c.text(0));
  return at == std::string::npos ? std::int64_t{-1} : length(std::string_view(s).substr(0, at));
}
Value m_count(const Call& c) {
  const std::string& s = *c.input.text();
  const std::string& what = c.text(0);
  if (what.empty()) return length(s) + 1;
  pay_for_search(c, what);
  std::int64_t n = 0;
  for (std::size_t at = s.find(what); at != std::string::npos; at = s.find(what, at + what.size())) ++n;
  return n;
}
Value m_replace(const Call& c) {
  return c.run.made(replace(c.run.budget, *c.input.text(), c.text(0), c.text(1), c.integer(2, -1)));
}
Value m_join(const Call& c) {
  std::string out;
  bool first = true;
  const auto next = c.run.iterate(*c.get(0));
  while (const auto item = next()) {
    if (item->text() == nullptr) refuse(fmt::format("join() of a {}", item->type_name()));
    append(c.run.budget, out, first ? "" : *c.input.text(), *item->text());
    first = false;
  }
  return c.run.made(std::move(out));
}
template <bool kStart>
Value m_remove_affix(const Call& c) {
  const std::string& s = *c.input.text();
  const std::string& affix = c.text(0);
  if (kStart) return c.run.made(s.starts_with(affix) ? s.substr(affix.size()) : s);
  return c.run.made(s.ends_with(affix) ? s.substr(0, s.size() - affix.size()) : s);
}
template <bool (*kIs)(char32_t)>
Value m_all(const Call& c) {
  const std::string& s = *c.input.text();
  for (std::size_t at = 0; at < s.size();) {
    if (!kIs(next_code_point(s, at))) return false;
  }
  return !s.empty();
}
template <bool kUpper>
Value m_cased(const Call& c) {
  return is_cased(*c.input.text(), kUpper);
}

constexpr Builtin kStringMethods[] = {
    {"strip", m_strip<true, true>, {"chars"}},
    {"lstrip", m_strip<true, false>, {"chars"}},
    {"rstrip", m_strip<false, true>, {"chars"}},
    {"upper", m_case<upper>},
    {"lower", m_case<lower>},
    {"title", m_case<title>},
    {"capitalize", m_case<capitalize>},
    {"split", m_split<false>, {"sep", "maxsplit"}, 0, true},
    {"rsplit", m_split<true>, {"sep", "maxsplit"}, 0, true},
    {"splitlines", m_split_lines, {"keepends"}, 0, true},
    {"startswith", m_affix<true>, {"prefix"}, 1},
    {"endswith", m_affix<false>, {"suffix"}, 1},
    {"find", m_find<false>, {"sub"}, 1},
    {"rfind", m_find<true>, {"sub"}, 1},
    {"replace", m_replace, {"old", "new", "count"}, 2},
    {"count", m_count, {"sub"}, 1},
    {"join", m_join, {"iterable"}, 1},
    {"removeprefix", m_remove_affix<true>, {"prefix"}, 1},
    {"removesuffix", m_remove_affix<false>, {"suffix"}, 1},
    {"isalpha", m_all<is_letter>},
    {"isalnum", m_all<is_letter_or_numeric>},
    {"isdigit", m_all<is_digit>},
    {"isnumeric", m_all<is_numeric>},
    {"isspace", m_all<is_space>},
    {"isupper", m_cased<true>},
    {"islower", m_cased<false>},
};

template <bool kCount>
Value m_find_in_list(const Call& c) {
  std::int64_t n = 0;
  std::int64_t index = 0;
  for (const Value& item : *c.input.list()) {
    if (equal(item, *c.get(0), c.run.budget)) {
      if (!kCount) return index;
      ++n;
    }
    ++index;
  }
  if (!kCount) throw Failure("index() finds nothing");
  return n;
}
constexpr Builtin kListMethods[] = {
    {"count", m_find_in_list<true>, {"value"}, 1},
    {"index", m_find_in_list<false>, {"value"}, 1},
};

template <List::Kind kKind>
Value m_view(const Call& c) {
  List out;
  out.kind = kKind;
  for (const auto& [key, value] : c.input.dict()->items) {
    if (kKind == List::Kind::kKeys) out.push_back(c.run.made(key));
    if (kKind == List::Kind::kValues) out.push_back(value);
    if (kKind == List::Kind::kItems) out.push_back(c.run.made(tuple_of({c.run.made(key), value})));
  }
  return c.run.made(std::move(out));
}
Value m_get(const Call& c) {
  if (c.get(0)->list() != nullptr || c.get(0)->dict() != nullptr) c.refuse_argument(0);
  const Value* found = c.get(0)->text() == nullptr ? nullptr : c.input.dict()->find(*c.get(0)->text());
  return found != nullptr ? *found : c.get(1) != nullptr ? *c.get(1) : Value(None{});
}
constexpr Builtin kDictMethods[] = {
    {"items", m_view<List::Kind::kItems>},
    {"keys", m_view<List::Kind::kKeys>},
    {"values", m_view<List::Kind::kValues>},
    {"get", m_get, {"key", "default"}, 1},
};

// The method `name` of `object`, bound to it; undefined if it has none.
Value method_of(Interpreter& run, std::span<const Builtin> all, const Value& object, std::string_view name) {
  const Builtin* method = find_builtin(all, name);
  if (method == nullptr) return Undefined{};
  return Function{std::string(name),
                  [&run, method, object](const Arguments& a) { return invoke(run, *method, object, a); },
                  object.depth()};
}

void fill(const Call& c, Dict& dict) {
  const auto set = [&](const std::string& key, const Value& value) {
    c.run.budget.take(1, key.size() + sizeof(Value));
    c.run.budget.step(1 + static_cast<std::int64_t>(dict.items.size()) / 16);
    dict.set(key, value);
  };
  if (c.arguments.positional.size() > 1) refuse(fmt::format("{} of several arguments", c.name));
  for (const Value& source : c.arguments.positional) {
    if (const Dict* other = source.dict()) {
      for (const auto& [key, value] : other->items) set(key, value);
      continue;
    }
    for (const Value& item : c.run.items_of(source)) {
      const List pair = c.run.items_of(item);
      if (pair.size() != 2 || pair.front().text() == nullptr) {
        refuse(fmt::format("{} of anything but pairs of a str and a value", c.name));
      }
      set(*pair.front().text(), pair.back());
    }
  }
  for (const auto& [key, value] : c.arguments.named) set(key, value);
}

Value g_range(const Call& c) {
  const bool one = c.get(1) == nullptr;
  const std::int64_t begin = one ? 0 : c.integer(0, 0);
  const std::int64_t end = c.integer(one ? 0 : 1, 0);
  const std::int64_t by = c.integer(2, 1);
  if (by == 0) throw Failure("the step of a range is 0");
  const auto first = static_cast<std::uint64_t>(by > 0 ? begin : end);
  const auto last = static_cast<std::uint64_t>(by > 0 ? end : begin);
  const std::uint64_t stride = by > 0 ? static_cast<std::uint64_t>(by) : 0 - static_cast<std::uint64_t>(by);
  const bool empty = by > 0 ? begin >= end : begin <= end;
  const std::uint64_t count = empty ? 0 : (last - first - 1) / stride + 1;
  if (count > static_cast<std::uint64_t>(Interpreter::kMaxRange)) {
    throw Failure(fmt::format("a range has more than {} items", Interpreter::kMaxRange));
  }
  List out;
  out.kind = List::Kind::kRange;
  out.shown =
      by == 1 ? fmt::format("range({}, {})", begin, end) : fmt::format("range({}, {}, {})", begin, end, by);
  for (std::uint64_t i = 0; i < count; ++i) out.emplace_back(begin + static_cast<std::int64_t>(i) * by);
  return c.run.made(std::move(out));
}
Value g_dict(const Call& c) {
  Dict dict;
  fill(c, dict);
  return dict;
}
Value g_namespace(const Call& c) {
  auto names = c.run.make_namespace();
  fill(c, *names);
  return names;
}
Value g_raise_exception(const Call& c) {
  throw InputError(fmt::format("The chat template refuses these messages: {}",
                               base::printable(c.run.text_of(*c.get(0)), 300)));
}
Value g_strftime_now(const Call& c) {
  const std::string& format = c.text(0);
  if (format.empty()) return "";
  for (std::size_t at = format.find('%'); at != std::string::npos; at = format.find('%', at + 2)) {
    const char letter = at + 1 < format.size() ? format[at + 1] : '\0';
    const bool known =
        letter != '\0' &&
        std::string_view("aAbBcdHIjmMpSUwWxXyYDeFGghklnrRtTuVC%").find(letter) != std::string_view::npos;
    if (!known) refuse(fmt::format("strftime_now(\"%{}\")", base::printable(std::string(1, letter))));
  }
  if (format.find('\0') != std::string::npos) refuse("strftime_now() with a zero byte");
  const std::time_t seconds = std::time(nullptr);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 1024> buffer{};
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0) refuse("so long a format of strftime_now()");
  return c.run.made(std::string(buffer.data(), size));
}
constexpr Builtin kGlobals[] = {
    {"range", g_range, {"start", "stop", "step"}, 1},
    {"dict", g_dict, {}, 0, true, true},
    {"namespace", g_namespace, {}, 0, true, true},
    {"raise_exception", g_raise_exception, {"message"}, 1, true},
    {"strftime_now", g_strftime_now, {"format"}, 1, true},
};

// A loop lives as long as its for loop runs, and no longer.
Value loop_method(const std::shared_ptr<Loop>& loop, const char* name,
                  std::function<Value(Loop&, const Arguments&)> call) {
  return Function{name, [weak = std::weak_ptr<Loop>(loop), call = std::move(call)](const Arguments& a) {
                    const auto alive = weak.lock();
                    if (alive == nullptr) refuse("a loop after its end");
                    if (!a.named.empty()) refuse("a named argument of a loop's method");
                    return call(*alive, a);
                  }};
}

}  // namespace

Value loop_attribute(Interpreter& run, const std::shared_ptr<Loop>& loop, const std::string& name) {
  const auto peek = [&]() -> const std::optional<Value>& {
    if (!loop->after) loop->after = loop->next();
    return *loop->after;
  };
  const auto length = [&] {
    if (!loop->length) {
      // Its items are read in advance, as in Jinja.
      List rest;
      while (auto item = loop->next()) {
        run.budget.take(1, sizeof(Value));
        rest.push_back(std::move(*item));
      }
      const bool looked = loop->after && *loop->after;
      loop->length = static_cast<std::int64_t>(rest.size()) + loop->index + 1 + (looked ? 1 : 0);
      loop->next = run.iterate(Value(std::move(rest)));
    }
    return *loop->length;
  };
  if (name == "index") return loop->index + 1;
  if (name == "index0") return loop->index;
  if (name == "revindex") return length() - loop->index;
  if (name == "revindex0") return length() - loop->index - 1;
  if (name == "first") return loop->index == 0;
  if (name == "last") return !peek().has_value();
  if (name == "length") return length();
  // Depth counts the calls of recursive loops, which there are none of.
  if (name == "depth") return std::int64_t{1};
  if (name == "depth0") return std::int64_t{0};
  if (name == "previtem") return loop->index == 0 ? Value(Undefined{"loop.previtem"}) : loop->before;
  if (name == "nextitem") return peek() ? *peek() : Value(Undefined{"loop.nextitem"});
  if (name == "cycle") {
    return loop_method(loop, "loop.cycle", [](Loop& self, const Arguments& a) {
      if (a.positional.empty()) throw Failure("cycle() has no arguments");
      return a.positional[static_cast<std::size_t>(self.index) % a.positional.size()];
    });
  }
  if (name == "changed") {
    return loop_method(loop, "loop.changed", [&run](Loop& self, const Arguments& a) -> Value {
      Value now = run.made(tuple_of(a.positional));
      const bool changed = !self.last_changed || !equal(*self.last_changed, now, run.budget);
      if (changed) self.last_changed = std::move(now);
      return changed;
    });
  }
  refuse(fmt::format("loop.{}", base::printable(name, 60)));
}

Value get_attribute(Interpreter& run, const Value& object, const std::string& name) {
  const std::string shown = base::printable(name, 60);
  if (name.starts_with("__")) refuse(fmt::format("the attribute {}", shown));
  if (const auto* undefined = object.as<Undefined>()) {
    throw Failure(fmt::format("{} is not defined, so it has no attribute {}",
                              base::printable(undefined->name, 60), shown));
  }
  const Undefined missing{fmt::format("the attribute {} of a {}", shown, object.type_name())};
  std::string_view others;
  std::span<const Builtin> methods;
  if (object.text() != nullptr) {
    methods = kStringMethods;
    others = kOtherOfStr;
  } else if (const List* list = object.list()) {
    const bool plain = list->kind <= List::Kind::kTuple;
    if (plain) methods = kListMethods;
    others = plain ? kOtherOfList : kOtherOfRangeAndViews;
  } else if (const Dict* dict = object.dict()) {
    if (is_listed(kForbiddenOfDict, name)) return missing;
    if (is_listed(kOtherOfDict, name)) refuse(fmt::format("the method {} of a dict", shown));
    // A method hides a key, as in Jinja.
    if (Value method = method_of(run, kDictMethods, object, name); !method.is_undefined()) return method;
    const Value* value = dict->find(name);
    return value != nullptr ? *value : Value(missing);
  } else if (const Namespace* names = object.names()) {
    const Value* value = names->find(name);
    if (value != nullptr && name.starts_with('_')) refuse(fmt::format("the attribute {}", shown));
    return value != nullptr ? *value : Value(missing);
  } else if (double number = 0; object.number(number)) {
    others = kOtherOfNumber;
  } else if (!object.is_none()) {
    refuse(fmt::format("an attribute of a {}", object.type_name()));
  }
  if (is_listed(others, name)) refuse(fmt::format("{} of a {}", shown, object.type_name()));
  Value method = method_of(run, methods, object, name);
  return method.is_undefined() ? Value(missing) : method;
}

Value get_item(Interpreter& run, const Value& object, const Value& key) {
  if (const auto* undefined = object.as<Undefined>()) {
    throw Failure(fmt::format("{} is not defined, so it has no items", base::printable(undefined->name, 60)));
  }
  std::int64_t index = 0;
  if (key.integer(index)) {
    const auto within = [&](std::int64_t size) {
      if (index < 0) index += size;
      return index >= 0 && index < size;
    };
    if (const auto* list = object.list(); list != nullptr && list->kind < List::Kind::kKeys) {
      if (within(static_cast<std::int64_t>(list->size()))) return (*list)[static_cast<std::size_t>(index)];
    } else if (const auto* text = object.text()) {
      run.budget.work(text->size());
      if (within(length(*text))) {
        const std::string_view rest = std::string_view(*text).substr(offset_of(*text, index));
        return run.made(std::string(rest.substr(0, offset_of(rest, 1))));
      }
    }
    return Undefined{fmt::format("item {} of a {}", index, object.type_name())};
  }
  if (object.shared<const Markup>() != nullptr || key.shared<const Markup>() != nullptr)
    refuse("an item of safe text");
  if (key.text() == nullptr) return Undefined{fmt::format("an item of a {}", object.type_name())};
  if (const auto* dict = object.dict()) {
    run.budget.step(static_cast<std::int64_t>(dict->items.size() / 8));
    if (const Value* value = dict->find(*key.text())) return *value;
  }
  return get_attribute(run, object, *key.text());
}

std::vector<std::pair<std::string, Value>> global_functions(Interpreter& run) {
  std::vector<std::pair<std::string, Value>> out;
  for (const Builtin& global : kGlobals)
    out.emplace_back(global.name, method_of(run, kGlobals, None{}, global.name));
  return out;
}

}  // namespace tte::text::jinja
