#include "text/jinja/strings.h"

#include <fmt/core.h>
#include <unicode/casemap.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>

#include "base/printable.h"
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

char32_t code_point_at(std::string_view text, std::size_t at) {
  return next_code_point(text, at);
}

// One part of a text that is split.
constexpr std::size_t kPartBytes = 128;

// One character as a title begins, which may be several.
std::string title_case(std::string_view character) {
  UErrorCode error = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  icu::CaseMap::utf8ToTitle("", U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT, nullptr,
                            icu::StringPiece(character.data(), static_cast<std::int32_t>(character.size())),
                            sink, nullptr, error);
  return out;
}

// Where the character before `at` begins.
std::size_t previous(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

}  // namespace

bool is_space(char32_t c) {
  return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0 || (c >= 0x1C && c <= 0x1F);
}

std::size_t offset_of(std::string_view text, std::int64_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) next_code_point(text, at);
  return at;
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

std::vector<std::string_view> split(Budget& budget, std::string_view text, const std::string* separator,
                                    std::int64_t limit, bool from_right) {
  std::vector<std::string_view> out;
  const auto trim = [&](std::string_view part) {
    return separator == nullptr ? strip(part, nullptr, !from_right, from_right) : part;
  };
  // Where the part at the end that is cut from stops, and where the rest goes on.
  const auto next_cut = [&]() -> std::pair<std::size_t, std::size_t> {
    if (separator != nullptr) {
      const std::size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
      return {at, at + separator->size()};
    }
    std::size_t at = from_right ? text.size() : 0;
    while (from_right ? at > 0 : at < text.size()) {
      const std::size_t begin = from_right ? previous(text, at) : at;
      std::size_t end = begin;
      if (is_space(next_code_point(text, end))) return {begin, end};
      at = from_right ? begin : end;
    }
    return {std::string_view::npos, 0};
  };
  text = trim(text);
  while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
    const auto [begin, end] = next_cut();
    if (begin == std::string_view::npos) break;
    budget.take(1, kPartBytes);
    out.push_back(from_right ? text.substr(end) : text.substr(0, begin));
    text = trim(from_right ? text.substr(0, begin) : text.substr(end));
  }
  if (separator != nullptr || !text.empty()) out.push_back(text);
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_lines(Budget& budget, std::string_view text) {
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = next_code_point(text, at);
    const bool is_end =
        (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!is_end) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    budget.take(1, kPartBytes);
    out.push_back(text.substr(begin, end - begin));
    begin = at;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

void append(Budget& budget, std::string& out, std::string_view a, std::string_view b) {
  if (a.size() + b.size() > kMaxText - std::min(out.size(), kMaxText)) {
    throw Failure(fmt::format("a text becomes longer than {} bytes", kMaxText));
  }
  budget.take(1, a.size() + b.size());
  out.append(a).append(b);
}

std::string replace(Budget& budget, std::string_view text, std::string_view what, std::string_view by,
                    std::int64_t limit) {
  std::string out;
  // In the worst case `what` almost fits everywhere.
  budget.work(text.size() * std::min<std::size_t>(what.size() + 1, 1 << 20), 4096);
  if (what.empty()) {  // Between all characters.
    for (std::size_t at = 0;;) {
      if (limit >= 0 && limit-- == 0) {
        append(budget, out, text.substr(at));
        return out;
      }
      const std::size_t begin = at;
      if (at < text.size()) next_code_point(text, at);
      append(budget, out, by, text.substr(begin, at - begin));
      if (begin == text.size()) return out;
    }
  }
  std::size_t done = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos && limit != 0;
       at = text.find(what, done)) {
    append(budget, out, text.substr(done, at - done), by);
    done = at + what.size();
    if (limit > 0) --limit;
  }
  append(budget, out, text.substr(done));
  return out;
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  const std::string_view number = strip(text, nullptr, true, true);
  const std::string_view digits = number.substr(number.starts_with('+') ? 1 : 0);
  std::int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value);
  if (parsed.ptr == end && parsed.ec == std::errc{} && !number.starts_with("+-")) return value;
  for (std::size_t at = 0; at < number.size();) {
    if (u_charDigitValue(static_cast<UChar32>(next_code_point(number, at))) >= 0) {
      refuse(fmt::format("int of \"{}\"", base::printable(number, 40)));
    }
  }
  return std::nullopt;
}

std::string upper(std::string_view text) {
  return to_utf8(from_utf8(text).toUpper(icu::Locale::getRoot()));
}
std::string lower(std::string_view text) {
  return to_utf8(from_utf8(text).toLower(icu::Locale::getRoot()));
}

std::string capitalize(std::string_view text) {
  const std::string_view first = text.substr(0, offset_of(text, 1));
  return title_case(first) + lower(text).substr(lower(first).size());
}

std::string title(std::string_view text) {
  std::string out;
  std::size_t word = 0;  // Where the cased characters began.
  bool inside = false;
  const auto end_word = [&](std::size_t end) {
    if (!inside) return;
    const std::string_view first = text.substr(word, offset_of(text.substr(word), 1));
    out += lower(text.substr(word, end - word)).substr(lower(first).size());
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const bool cased = u_hasBinaryProperty(static_cast<UChar32>(next_code_point(text, at)), UCHAR_CASED) != 0;
    if (cased && inside) continue;
    if (!cased) end_word(begin);
    out += title_case(text.substr(begin, at - begin));
    inside = cased;
    word = begin;
  }
  end_word(text.size());
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
