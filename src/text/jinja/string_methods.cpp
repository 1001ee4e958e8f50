// The methods of strings.
#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "text/jinja/callable.h"
#include "text/jinja/strings.h"
#include "text/utf8.h"

namespace tte::text::jinja {
namespace {

Value list_of(Interpreter& run, const std::vector<std::string_view>& parts) {
  List out;
  out.reserve(parts.size());
  for (const std::string_view part : parts) out.push_back(run.made(std::string(part)));
  return run.made(std::move(out));
}

// str.startswith and str.endswith, which take one string or a tuple of them.
bool has_affix(Interpreter& run, const std::string& text, const Arguments& arguments, bool start, int line) {
  if (arguments.positional.empty()) run.fail(line, "argument 1 is missing");
  const auto one = [&](const Value& affix) {
    if (affix.text() == nullptr)
      run.fail(line, fmt::format("a {} is not the start or end of a string", affix.type_name()));
    return start ? text.starts_with(*affix.text()) : text.ends_with(*affix.text());
  };
  const Value& affix = arguments.positional.front();
  if (affix.list() == nullptr) return one(affix);
  return std::any_of(affix.list()->begin(), affix.list()->end(), one);
}

bool all_characters(std::string_view text, bool (*is)(char32_t)) {
  if (text.empty()) return false;
  for (std::size_t at = 0; at < text.size();) {
    if (!is(next_code_point(text, at))) return false;
  }
  return true;
}

using StringMethod = Value (*)(Interpreter&, const std::string&, const Arguments&, int line);

template <bool kLeft, bool kRight>
Value strip_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  return run.made(std::string(strip(s, text_argument(run, a, 0, "chars", line), kLeft, kRight)));
}
template <std::string (*kFunction)(std::string_view)>
Value case_method(Interpreter& run, const std::string& s, const Arguments&, int) {
  return run.made(kFunction(s));
}
template <bool kRight>
Value split_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  const std::string* separator = text_argument(run, a, 0, "sep", line);
  if (separator != nullptr && separator->empty()) run.fail(line, "the separator of split() is empty");
  run.scan(s.size(), separator == nullptr ? 1 : separator->size());
  return list_of(run, split(s, separator, integer_argument(run, a, 1, "maxsplit", -1, line), kRight));
}
template <bool kStart>
Value affix_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  return has_affix(run, s, a, kStart, line);
}
template <bool kLast>
Value find_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  const std::string& what = needed_text(run, a, 0, line);
  if (a.positional.size() > 1) run.fail(line, "find() with a start is not supported by tte");
  run.scan(s.size(), what.size());
  const std::size_t at = kLast ? s.rfind(what) : s.find(what);
  return at == std::string::npos ? std::int64_t{-1} : length(std::string_view(s).substr(0, at));
}
Value replace_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  const std::string& what = needed_text(run, a, 0, line);
  const std::string& by = needed_text(run, a, 1, line);
  run.scan(s.size(), what.size() + 1);
  run.expect_room(line, s.size() / std::max<std::size_t>(what.size(), 1) + 1, by.size());
  return run.made(replace(s, what, by, integer_argument(run, a, 2, "count", -1, line)));
}
Value count_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  const std::string& what = needed_text(run, a, 0, line);
  if (what.empty()) return length(s) + 1;
  run.scan(s.size(), what.size());
  std::int64_t n = 0;
  for (std::size_t at = s.find(what); at != std::string::npos; at = s.find(what, at + what.size())) ++n;
  return n;
}
Value join_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  if (a.positional.empty()) run.fail(line, "argument 1 is missing");
  const auto items = run.items_of(a.positional.front(), line);
  run.expect_room(line, items->size(), s.size());
  std::string out;
  for (std::size_t i = 0; i < items->size(); ++i) {
    const std::string* text = (*items)[i].text();
    if (text == nullptr)
      run.fail(line, fmt::format("join() is given a {}, not a string", (*items)[i].type_name()));
    if (i > 0) out += s;
    out += *text;
    run.expect_room(line, 1, out.size());
  }
  return run.made(std::move(out));
}
template <bool kStart>
Value remove_affix_method(Interpreter& run, const std::string& s, const Arguments& a, int line) {
  const std::string& affix = needed_text(run, a, 0, line);
  const bool there = kStart ? s.starts_with(affix) : s.ends_with(affix);
  if (!there) return s;
  return run.made(kStart ? s.substr(affix.size()) : s.substr(0, s.size() - affix.size()));
}
Value split_lines_method(Interpreter& run, const std::string& s, const Arguments& a, int) {
  const Value* keep = a.get(0, "keepends");
  return list_of(run, split_lines(s, keep != nullptr && keep->truthy()));
}
Value is_digit_method(Interpreter&, const std::string& s, const Arguments&, int) {
  return all_characters(s, [](char32_t c) { return c >= '0' && c <= '9'; });
}
Value is_space_method(Interpreter&, const std::string& s, const Arguments&, int) {
  return all_characters(s, [](char32_t c) { return is_space(c); });
}
Value is_upper_method(Interpreter&, const std::string& s, const Arguments&, int) {
  return upper(s) == s && lower(s) != s;
}
Value is_lower_method(Interpreter&, const std::string& s, const Arguments&, int) {
  return lower(s) == s && upper(s) != s;
}

constexpr std::array<std::pair<std::string_view, StringMethod>, 24> kStringMethods = {{
    {"strip", strip_method<true, true>},
    {"lstrip", strip_method<true, false>},
    {"rstrip", strip_method<false, true>},
    {"upper", case_method<upper>},
    {"lower", case_method<lower>},
    {"title", case_method<title>},
    {"capitalize", case_method<capitalize>},
    {"split", split_method<false>},
    {"rsplit", split_method<true>},
    {"splitlines", split_lines_method},
    {"startswith", affix_method<true>},
    {"endswith", affix_method<false>},
    {"find", find_method<false>},
    {"rfind", find_method<true>},
    {"replace", replace_method},
    {"count", count_method},
    {"join", join_method},
    {"removeprefix", remove_affix_method<true>},
    {"removesuffix", remove_affix_method<false>},
    {"isdigit", is_digit_method},
    {"isnumeric", is_digit_method},
    {"isspace", is_space_method},
    {"isupper", is_upper_method},
    {"islower", is_lower_method},
}};

}  // namespace

Value string_method(const std::shared_ptr<const std::string>& text, const std::string& name) {
  const auto known = std::find_if(kStringMethods.begin(), kStringMethods.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  if (known == kStringMethods.end()) return Undefined{"str." + name};
  return bound("str." + name, [text, method = known->second](Interpreter& run, const Arguments& a, int line) {
    run.scan(text->size());
    return method(run, *text, a, line);
  });
}

}  // namespace tte::text::jinja
