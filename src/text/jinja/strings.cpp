#include "text/jinja/strings.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "text/utf8.h"

namespace tte::text::jinja {
namespace {

std::string to_utf8(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

icu::UnicodeString from_utf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

std::size_t previous(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

char32_t code_point_at(std::string_view text, std::size_t at) {
  return next_code_point(text, at);
}

std::vector<std::string_view> split_at_spaces(std::string_view text, std::int64_t limit, bool from_right) {
  std::vector<std::string_view> out;
  std::string_view rest = strip(text, nullptr, true, true);
  while (!rest.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) {
      out.push_back(rest);
      break;
    }
    std::size_t begin = 0;
    std::size_t end = rest.size();
    if (from_right) {
      begin = end;
      while (begin > 0 && !is_space(code_point_at(rest, previous(rest, begin))))
        begin = previous(rest, begin);
      out.push_back(rest.substr(begin));
      rest = strip(rest.substr(0, begin), nullptr, false, true);
    } else {
      for (end = 0; end < rest.size() && !is_space(code_point_at(rest, end));) next_code_point(rest, end);
      out.push_back(rest.substr(0, end));
      rest = strip(rest.substr(end), nullptr, true, false);
    }
  }
  return out;
}

}  // namespace

bool is_space(char32_t c) {
  return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0 || (c >= 0x1C && c <= 0x1F);
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    next_code_point(text, at);
    out.push_back(text.substr(begin, at - begin));
  }
  return out;
}

std::int64_t length(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right) {
  std::vector<char32_t> set;
  if (chars != nullptr) {
    for (std::size_t at = 0; at < chars->size();) set.push_back(next_code_point(*chars, at));
    std::sort(set.begin(), set.end());
  }
  const auto drop = [&](char32_t c) {
    return chars == nullptr ? is_space(c) : std::binary_search(set.begin(), set.end(), c);
  };
  while (left && !text.empty()) {
    std::size_t next = 0;
    if (!drop(next_code_point(text, next))) break;
    text.remove_prefix(next);
  }
  while (right && !text.empty()) {
    const std::size_t start = previous(text, text.size());
    if (!drop(code_point_at(text, start))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text, const std::string* separator, std::int64_t limit,
                                    bool from_right) {
  std::vector<std::string_view> out;
  if (separator == nullptr) {
    out = split_at_spaces(text, limit, from_right);
  } else {
    while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
      const std::size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
      if (at == std::string_view::npos) break;
      out.push_back(from_right ? text.substr(at + separator->size()) : text.substr(0, at));
      text = from_right ? text.substr(0, at) : text.substr(at + separator->size());
    }
    out.push_back(text);
  }
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = next_code_point(text, at);
    const bool is_end =
        (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!is_end) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

std::string replace(std::string_view text, std::string_view what, std::string_view by, std::int64_t limit) {
  std::string out;
  if (what.empty()) {  // Between all characters.
    for (std::size_t at = 0;;) {
      if (limit >= 0 && limit-- == 0) return out.append(text.substr(at));
      out.append(by);
      if (at >= text.size()) return out;
      const std::size_t begin = at;
      next_code_point(text, at);
      out.append(text.substr(begin, at - begin));
    }
  }
  std::size_t done = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos && limit != 0;
       at = text.find(what, done)) {
    out.append(text.substr(done, at - done)).append(by);
    done = at + what.size();
    if (limit > 0) --limit;
  }
  return out.append(text.substr(done));
}

std::string upper(std::string_view text) {
  return to_utf8(from_utf8(text).toUpper(icu::Locale::getRoot()));
}
std::string lower(std::string_view text) {
  return to_utf8(from_utf8(text).toLower(icu::Locale::getRoot()));
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  std::size_t at = 0;
  std::string out;
  append_code_point(out, static_cast<char32_t>(u_totitle(static_cast<UChar32>(next_code_point(text, at)))));
  return out + lower(text.substr(at));
}

std::string title(std::string_view text) {
  std::string out;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = static_cast<UChar32>(next_code_point(text, at));
    append_code_point(out, static_cast<char32_t>(inside ? u_tolower(c) : u_totitle(c)));
    inside = u_hasBinaryProperty(c, UCHAR_CASED) != 0;
  }
  return out;
}

std::string title_filter(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto is_break = [](char32_t c) {
      return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_space(c);
    };
    const std::size_t begin = at;
    if (is_break(next_code_point(text, at))) {
      out.append(text.substr(begin, at - begin));
      continue;
    }
    out += upper(text.substr(begin, at - begin));
    const std::size_t rest = at;
    while (at < text.size() && !is_break(code_point_at(text, at))) next_code_point(text, at);
    out += lower(text.substr(rest, at - rest));
  }
  return out;
}

}  // namespace tte::text::jinja
