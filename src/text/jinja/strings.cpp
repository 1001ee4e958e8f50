#include "text/jinja/strings.h"

#include <fmt/core.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

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

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
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
  const auto drop = [&](std::string_view character) {
    std::size_t at = 0;
    return chars == nullptr ? is_space(next_code_point(character, at))
                            : chars->find(character) != std::string::npos;
  };
  while (left && !text.empty()) {
    const std::size_t end = offset_of(text, 1);
    if (!drop(text.substr(0, end))) break;
    text.remove_prefix(end);
  }
  while (right && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (base::continues_character(text, begin)) --begin;
    if (!drop(text.substr(begin))) break;
    text = text.substr(0, begin);
  }
  return text;
}

std::vector<std::string_view> split(Budget& budget, std::string_view text, std::string_view separator,
                                    std::int64_t limit) {
  std::vector<std::string_view> out;
  pay_for_search(budget, text, separator);
  for (std::size_t at = text.find(separator); at != std::string_view::npos && limit != 0; --limit) {
    budget.take(1, 128);
    out.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
    at = text.find(separator);
  }
  out.push_back(text);
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

std::string upper(std::string_view text) {
  return to_utf8(from_utf8(text).toUpper(icu::Locale::getRoot()));
}
std::string lower(std::string_view text) {
  return to_utf8(from_utf8(text).toLower(icu::Locale::getRoot()));
}
std::string with_capitals(std::string_view text, bool each_word) {
  const auto known = [&](char c) {
    return each_word ? is_letter(c) || c == ' ' : static_cast<unsigned char>(c) < 0x80;
  };
  if (!std::all_of(text.begin(), text.end(), known)) {
    refuse(fmt::format("the capitals of \"{}\"", base::printable(text, 40)));
  }
  std::string out = lower(text);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool begins = i == 0 || (each_word && out[i - 1] == ' ');
    if (begins && is_letter(out[i])) out[i] = static_cast<char>(out[i] & ~0x20);
  }
  return out;
}

}  // namespace tte::text::jinja
