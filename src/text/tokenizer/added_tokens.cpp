#include "text/tokenizer/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "base/utf8.h"
#include "text/tokenizer/splitter.h"

namespace tte::text {
namespace {

std::size_t previous_start(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && base::continues_character(text, at));
  return at;
}

bool is_space(char32_t c) {
  return u_isUWhiteSpace(static_cast<UChar32>(c)) != 0;
}

// \w of the reference's regular expressions.
bool is_word(char32_t c) {
  const auto code_point = static_cast<UChar32>(c);
  return u_hasBinaryProperty(code_point, UCHAR_ALPHABETIC) != 0 ||
         u_hasBinaryProperty(code_point, UCHAR_JOIN_CONTROL) != 0 ||
         (U_GET_GC_MASK(code_point) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

bool word_before(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  std::size_t start = previous_start(text, at);
  return is_word(base::next_code_point(text, start));
}

bool word_after(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(base::next_code_point(text, at));
}

std::size_t skip_spaces(std::string_view text, std::size_t at) {
  for (std::size_t next = at; at < text.size() && is_space(base::next_code_point(text, next));) at = next;
  return at;
}

std::size_t skip_spaces_back(std::string_view text, std::size_t at, std::size_t limit) {
  while (at > limit) {
    const std::size_t start = previous_start(text, at);
    std::size_t next = start;
    if (!is_space(base::next_code_point(text, next))) break;
    at = start;
  }
  return std::max(at, limit);
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<Entry>& entries, bool skip_special)
    : skip_special_(skip_special) {
  std::vector<std::string> contents;
  for (const Entry& entry : entries) {
    contents.push_back(entry.content);
    tokens_.push_back(entry.token);
  }
  matcher_ = StringMatcher(contents);
}

void AddedTokenMatcher::cut(std::string_view text, std::vector<Segment>& segments) const {
  std::size_t done = 0;  // End of the last token; blanks that it took may be cut again by the next.
  Range blanks;          // Those that were skipped last: they are not walked over twice.
  matcher_.find(text, [&](const StringMatcher::Match& match) {
    const AddedToken& token = tokens_[match.index];
    if (skip_special_ && token.special) return;
    std::size_t begin = match.begin;
    std::size_t end = match.end;
    if (token.single_word && (word_before(text, begin) || word_after(text, end))) return;
    if (token.lstrip) begin = skip_spaces_back(text, begin, done);
    if (token.rstrip) {
      if (end < blanks.begin || end > blanks.end) blanks = {end, skip_spaces(text, end)};
      end = blanks.end;
    }
    if (done < begin) segments.push_back({done, begin, -1});
    if (end < begin) return;  // Inside of what the last token took; the library fails here.
    if (begin < end)
      segments.push_back({begin, end, token.id});  // All of it may be the last token's already.
    done = end;
  });
  if (done < text.size()) segments.push_back({done, text.size(), -1});
}

}  // namespace tte::text
