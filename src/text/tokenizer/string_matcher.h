// Finds many strings in a text at once, in time linear in the text.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tte::text {

// Leftmost-longest matching of a set of strings. Immutable and safe to use from many threads.
//
// The automaton (Aho-Corasick, over the strings read backwards) goes through a window of the text from right
// to left, so that each position learns the longest string that begins there: no position is looked at twice,
// whatever the strings and the text have in common.
class StringMatcher {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t index = 0;  // The index of the string; of the first of equal ones.
  };

  StringMatcher() = default;
  // Empty strings match nowhere.
  explicit StringMatcher(const std::vector<std::string>& strings);

  [[nodiscard]] bool empty() const { return nodes_.size() < 2; }
  // Calls `found` for each match from left to right; the next one begins where the last one ends, or later.
  void find(std::string_view text, const std::function<void(const Match&)>& found) const;

 private:
  struct Node {
    std::int32_t first_child = 0;  // Children are neighbours, sorted by byte.
    std::int32_t fallback = 0;     // The longest proper suffix of what was read that is a node.
    std::int32_t longest = -1;     // The longest string that ends here.
    std::int16_t children = 0;
    unsigned char byte = 0;
  };
  [[nodiscard]] std::int32_t child(std::int32_t node, unsigned char byte) const;
  [[nodiscard]] std::int32_t next(std::int32_t node, unsigned char byte) const;

  std::vector<Node> nodes_;  // The first is the root.
  std::array<std::int32_t, 256> from_root_{};
  std::vector<std::uint32_t> lengths_;
  std::size_t longest_ = 0;  // In bytes.
};

}  // namespace tte::text
