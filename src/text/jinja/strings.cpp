#include "text/jinja/strings.h"

#include <fmt/core.h>
#include <unicode/casemap.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>

#include "text/jinja/interpreter.h"
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

bool has_type(char32_t c, std::uint32_t mask) {
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & mask) != 0;
}
int numeric_type(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
}

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

std::vector<std::string_view> split_at_spaces(Budget& budget, std::string_view text, std::int64_t limit,
                                              bool from_right) {
  std::vector<std::string_view> out;
  std::string_view rest = strip(text, nullptr, !from_right, from_right);
  while (!rest.empty()) {
    budget.take(1, kPartBytes);
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

std::size_t previous(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

bool is_letter(char32_t c) {
  return has_type(c, U_GC_L_MASK);
}
bool is_digit(char32_t c) {
  return numeric_type(c) == U_NT_DECIMAL || numeric_type(c) == U_NT_DIGIT;
}
bool is_numeric(char32_t c) {
  return numeric_type(c) != U_NT_NONE;
}
bool is_letter_or_numeric(char32_t c) {
  return is_letter(c) || is_numeric(c);
}

bool is_cased(std::string_view text, bool upper) {
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = static_cast<UChar32>(next_code_point(text, at));
    const bool is_upper = u_hasBinaryProperty(c, UCHAR_UPPERCASE) != 0;
    const bool is_lower = u_hasBinaryProperty(c, UCHAR_LOWERCASE) != 0;
    if ((upper ? is_lower : is_upper) || u_charType(c) == U_TITLECASE_LETTER) return false;
    any = any || (upper ? is_upper : is_lower);
  }
  return any;
}

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
  if (separator == nullptr) {
    out = split_at_spaces(budget, text, limit, from_right);
  } else {
    while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
      const std::size_t at = from_right ? text.rfind(*separator) : text.find(*separator);
      if (at == std::string_view::npos) break;
      budget.take(1, kPartBytes);
      out.push_back(from_right ? text.substr(at + separator->size()) : text.substr(0, at));
      text = from_right ? text.substr(0, at) : text.substr(at + separator->size());
    }
    out.push_back(text);
  }
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_lines(Budget& budget, std::string_view text, bool keep_ends) {
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
    out.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
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
        append(budget, out, text.substr(at), "");
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
  append(budget, out, text.substr(done), "");
  return out;
}

namespace {

// Without white space and without the underscores between digits; none if an underscore stands elsewhere.
std::optional<std::string> digits_of(std::string_view text) {
  std::string out;
  text = strip(text, nullptr, true, true);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (c >= 0x80) {
      if (u_charDigitValue(static_cast<UChar32>(c)) < 0) return std::nullopt;
      refuse("a number in other than ASCII digits");
    }
    const auto alnum = [&](std::size_t i) {
      return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0;
    };
    if (c != '_') {
      out += static_cast<char>(c);
    } else if (begin == 0 || !alnum(begin - 1) || !alnum(at)) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<std::int64_t> parse_int(std::string_view text, std::int64_t base) {
  if (base != 2 && base != 8 && base != 10 && base != 16) refuse(fmt::format("a base of {}", base));
  const auto cleaned = digits_of(text);
  if (!cleaned || cleaned->empty()) return std::nullopt;
  const bool negative = cleaned->front() == '-';
  std::string digits = cleaned->substr(negative || cleaned->front() == '+' ? 1 : 0);
  const char mark = base == 2 ? 'b' : base == 8 ? 'o' : base == 16 ? 'x' : '\0';
  if (mark != '\0' && digits.size() > 2 && digits[0] == '0' && (digits[1] | 0x20) == mark) digits.erase(0, 2);
  if (digits.empty() || digits.front() == '-') return std::nullopt;
  if (negative) digits.insert(0, 1, '-');
  std::int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value, static_cast<int>(base));
  if (parsed.ptr != end) return std::nullopt;
  if (parsed.ec != std::errc{}) refuse("so large an int");
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  const auto cleaned = digits_of(text);
  if (!cleaned) return std::nullopt;
  std::string_view digits = *cleaned;
  if (digits.starts_with('+') && !digits.starts_with("+-")) digits.remove_prefix(1);
  if (digits.find_first_of("(_") != std::string_view::npos) return std::nullopt;
  double value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value);
  if (parsed.ptr != end || parsed.ec == std::errc::invalid_argument) return std::nullopt;
  if (parsed.ec != std::errc{}) refuse("so large or small a float");
  if (value != value) refuse("what is not a number");
  return value;
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
