#include "text/jinja/strings.h"

#include <fmt/core.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <charconv>

#include "base/printable.h"
#include "text/utf8.h"

namespace tte::text::jinja {
namespace {

// One part of a text that is split.
constexpr std::size_t kPartBytes = 128;

std::string to_utf8(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

icu::UnicodeString from_utf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// The first letter of each word as a capital, the others small; `between` says what is no part of a word.
std::string with_capitals(std::string_view text, bool (*between)(char)) {
  if (std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    refuse("the capitals of a text beyond ASCII");
  }
  std::string out = lower(text);
  bool begins = true;
  for (char& c : out) {
    if (begins && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    begins = between(c);
  }
  return out;
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
  std::int64_t characters = 0;
  for (std::size_t at = 0; at < text.size(); ++at) characters += base::continues_character(text, at) ? 0 : 1;
  return characters;
}

std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right) {
  std::vector<char32_t> set;
  for (std::size_t at = 0; chars != nullptr && at < chars->size();)
    set.push_back(next_code_point(*chars, at));
  std::sort(set.begin(), set.end());
  const auto drop = [&](char32_t c) {
    return chars == nullptr ? is_space(c) : std::binary_search(set.begin(), set.end(), c);
  };
  while (left && !text.empty()) {
    std::size_t next = 0;
    if (!drop(next_code_point(text, next))) break;
    text.remove_prefix(next);
  }
  while (right && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (base::continues_character(text, begin)) --begin;
    std::size_t next = begin;
    if (!drop(next_code_point(text, next))) break;
    text = text.substr(0, begin);
  }
  return text;
}

std::vector<std::string_view> split(Budget& budget, std::string_view text, std::string_view separator,
                                    std::int64_t limit) {
  std::vector<std::string_view> out;
  pay_for_search(budget, text, separator);
  for (std::size_t at = text.find(separator); at != std::string_view::npos && limit != 0; --limit) {
    budget.take(1, kPartBytes);
    out.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
    at = text.find(separator);
  }
  out.push_back(text);
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

void pay_for_search(Budget& budget, std::string_view text, std::string_view what) {
  // In the worst case `what` almost fits everywhere.
  budget.work(text.size() * std::min<std::size_t>(what.size() + 1, 1 << 20), 4096);
}

std::string replace(Budget& budget, std::string_view text, std::string_view what, std::string_view by) {
  if (what.empty()) refuse("replacing an empty text");
  std::string out;
  std::size_t done = 0;
  pay_for_search(budget, text, what);
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, done)) {
    append(budget, out, text.substr(done, at - done), by);
    done = at + what.size();
  }
  append(budget, out, text.substr(done));
  return out;
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  std::string_view digits = strip(text, nullptr, true, true);
  if (digits.starts_with('+') && !digits.starts_with("+-")) digits.remove_prefix(1);
  std::int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value);
  if (parsed.ptr == end && parsed.ec == std::errc{}) return value;
  for (std::size_t at = 0; at < text.size();) {
    if (u_charDigitValue(static_cast<UChar32>(next_code_point(text, at))) < 0) continue;
    refuse(fmt::format("int of \"{}\"", base::printable(text, 40)));
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
  return with_capitals(text, [](char) { return false; });
}
std::string title(std::string_view text) {
  return with_capitals(text, [](char c) { return !is_letter(c); });
}
std::string title_filter(std::string_view text) {
  return with_capitals(text, [](char c) {
    return std::string_view("-({[<").find(c) != std::string_view::npos ||
           is_space(static_cast<unsigned char>(c));
  });
}

}  // namespace tte::text::jinja
