#include "text/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "text/utf8.h"

namespace tte::text {
namespace {

std::size_t previous_start(std::string_view text, std::size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
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
  return is_word(next_code_point(text, start));
}

bool word_after(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(next_code_point(text, at));
}

std::size_t skip_spaces(std::string_view text, std::size_t at) {
  for (std::size_t next = at; at < text.size() && is_space(next_code_point(text, next));) at = next;
  return at;
}

std::size_t skip_spaces_back(std::string_view text, std::size_t at, std::size_t limit) {
  while (at > limit) {
    const std::size_t start = previous_start(text, at);
    std::size_t next = start;
    if (!is_space(next_code_point(text, next))) break;
    at = start;
  }
  return std::max(at, limit);
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher() : nodes_(1) {}

void AddedTokenMatcher::add(std::string_view content, const AddedToken& token) {
  if (content.empty()) return;
  std::size_t node = 0;
  for (const char c : content) {
    auto& children = nodes_[node].children;
    const auto less = [](const auto& child, char byte) { return child.first < byte; };
    const auto it = std::lower_bound(children.begin(), children.end(), c, less);
    if (it != children.end() && it->first == c) {
      node = static_cast<std::size_t>(it->second);
      continue;
    }
    children.insert(it, {c, static_cast<std::int32_t>(nodes_.size())});
    node = nodes_.size();
    nodes_.emplace_back();
  }
  starts_[static_cast<unsigned char>(content.front())] = true;
  nodes_[node].token = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
}

std::int32_t AddedTokenMatcher::longest(std::string_view text, std::size_t at, std::size_t& end) const {
  std::int32_t found = -1;
  std::size_t node = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    const auto& children = nodes_[node].children;
    const auto less = [](const auto& child, char byte) { return child.first < byte; };
    const auto it = std::lower_bound(children.begin(), children.end(), text[i], less);
    if (it == children.end() || it->first != text[i]) break;
    node = static_cast<std::size_t>(it->second);
    if (nodes_[node].token >= 0) {
      found = nodes_[node].token;
      end = i + 1;
    }
  }
  return found;
}

void AddedTokenMatcher::cut(std::string_view text, std::vector<Segment>& segments) const {
  std::size_t done = 0;  // End of the last segment.
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    const std::int32_t index =
        starts_[static_cast<unsigned char>(text[at])] ? longest(text, at, end) : std::int32_t{-1};
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
    std::size_t begin = at;
    at = end;
    if (token.single_word && (word_before(text, begin) || word_after(text, end))) continue;
    if (token.lstrip) begin = skip_spaces_back(text, begin, done);
    if (token.rstrip) end = skip_spaces(text, end);
    begin = std::max(begin, done);  // An earlier token may have taken the spaces that this one begins with.
    if (end <= done) continue;
    if (done < begin) segments.push_back({done, begin, -1});
    segments.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), -1});
}

}  // namespace tte::text
