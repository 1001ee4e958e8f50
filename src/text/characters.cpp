#include "text/characters.h"
#include "base/utf8.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

namespace tte::text {
namespace {

template <typename Change>
std::string changed(std::string_view text, Change change) {
  const icu::StringPiece bytes(text.data(), static_cast<std::int32_t>(text.size()));
  icu::UnicodeString characters = icu::UnicodeString::fromUTF8(bytes);
  change(characters);
  std::string out;
  return characters.toUTF8String(out);
}

// Where character `index` begins; the end of a text that has fewer.
std::size_t offset_of(std::string_view text, std::int64_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) base::next_code_point(text, at);
  return at;
}

}  // namespace

bool is_space(char32_t c) {
  return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0 || (c >= 0x1C && c <= 0x1F);
}

std::int64_t count_characters(std::string_view text) {
  std::int64_t characters = 0;
  for (std::size_t at = 0; at < text.size(); ++at) characters += base::continues_character(text, at) ? 0 : 1;
  return characters;
}

std::string_view substring(std::string_view text, std::int64_t first, std::int64_t count) {
  text.remove_prefix(offset_of(text, first));
  return text.substr(0, offset_of(text, count));
}

std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right) {
  const auto drop = [&](std::string_view character) {
    std::size_t at = 0;
    return chars == nullptr ? is_space(base::next_code_point(character, at))
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

std::string upper(std::string_view text) {
  return changed(text, [](auto& all) { all.toUpper(icu::Locale::getRoot()); });
}
std::string lower(std::string_view text) {
  return changed(text, [](auto& all) { all.toLower(icu::Locale::getRoot()); });
}
std::string capitalize(std::string_view text) {
  constexpr std::uint32_t kFirstLetter = U_TITLECASE_WHOLE_STRING | U_TITLECASE_NO_BREAK_ADJUSTMENT;
  return changed(text, [&](auto& all) { all.toTitle(nullptr, icu::Locale::getRoot(), kFirstLetter); });
}

}  // namespace tte::text
