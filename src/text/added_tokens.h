// Finds the strings of added tokens in raw text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace tte::text {

// A part of a text: an added token, or (id < 0) what lies between.
struct Segment {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::int64_t id = -1;
};

// Leftmost-longest matching of a set of strings. Immutable and safe to use from many threads.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher();
  // `content` is what is looked for (the token's content, normalised if the token is).
  void add(std::string_view content, const AddedToken& token);
  [[nodiscard]] bool empty() const { return tokens_.empty(); }
  // All of `text` (UTF-8) as segments in order.
  void cut(std::string_view text, std::vector<Segment>& segments) const;

 private:
  struct Node {
    std::vector<std::pair<char, std::int32_t>> children;  // Sorted by byte.
    std::int32_t token = -1;
  };
  // Index into tokens_ of the longest token at `at`, -1 if none; `end` moves past it.
  [[nodiscard]] std::int32_t longest(std::string_view text, std::size_t at, std::size_t& end) const;

  std::vector<Node> nodes_;
  std::vector<AddedToken> tokens_;
  std::array<bool, 256> starts_{};
};

}  // namespace tte::text
