#include "text/tokenizer/string_matcher.h"

#include <algorithm>
#include <numeric>

namespace tte::text {
namespace {

constexpr std::size_t kWindow = std::size_t{1} << 16;

// Strings compared from their last byte to their first.
bool less_backwards(std::string_view a, std::string_view b) {
  return std::lexicographical_compare(a.rbegin(), a.rend(), b.rbegin(), b.rend(), [](char x, char y) {
    return static_cast<unsigned char>(x) < static_cast<unsigned char>(y);
  });
}

// Strings [begin, end) of the sorted order that share a node.
struct Siblings {
  std::size_t begin, end;
};

}  // namespace

StringMatcher::StringMatcher(const std::vector<std::string>& strings) {
  std::vector<std::size_t> order(strings.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return strings[i].empty(); });
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return less_backwards(strings[a], strings[b]); });
  for (const std::string& text : strings) {
    lengths_.push_back(static_cast<std::uint32_t>(text.size()));
    longest_ = std::max(longest_, text.size());
  }
  // The nodes of one depth after those of the depth before, which makes siblings neighbours.
  nodes_.emplace_back();
  std::vector<Siblings> ranges = {{0, order.size()}};
  std::size_t level = 0;  // First node of this depth.
  for (std::size_t depth = 0; level < nodes_.size(); ++depth) {
    const std::size_t level_end = nodes_.size();
    std::vector<Siblings> below;
    for (std::size_t n = level; n < level_end; ++n) {
      auto [at, end] = ranges[n - level];
      while (at < end && strings[order[at]].size() == depth) ++at;  // Wholly read: they come first.
      nodes_[n].first_child = static_cast<std::int32_t>(nodes_.size());
      while (at < end) {
        const auto byte_of = [&](std::size_t i) {
          const std::string& text = strings[order[i]];
          return static_cast<unsigned char>(text[text.size() - 1 - depth]);
        };
        const unsigned char byte = byte_of(at);
        std::size_t same = at;
        while (same < end && byte_of(same) == byte) ++same;
        Node made;
        made.byte = byte;
        if (n != 0) made.fallback = next(nodes_[n].fallback, byte);
        // A string that is just what was read, or else one that is a suffix of it.
        made.longest = strings[order[at]].size() == depth + 1
                           ? static_cast<std::int32_t>(order[at])
                           : nodes_[static_cast<std::size_t>(made.fallback)].longest;
        if (n == 0) from_root_[byte] = static_cast<std::int32_t>(nodes_.size());
        nodes_.push_back(made);
        ++nodes_[n].children;
        below.push_back({at, same});
        at = same;
      }
    }
    ranges = std::move(below);
    level = level_end;
  }
}

std::int32_t StringMatcher::child(std::int32_t node, unsigned char byte) const {
  if (node == 0) return from_root_[byte];
  const Node& parent = nodes_[static_cast<std::size_t>(node)];
  const auto begin = nodes_.begin() + parent.first_child;
  const auto end = begin + parent.children;
  const auto it =
      std::lower_bound(begin, end, byte, [](const Node& n, unsigned char b) { return n.byte < b; });
  return it == end || it->byte != byte ? 0 : static_cast<std::int32_t>(it - nodes_.begin());
}

std::int32_t StringMatcher::next(std::int32_t node, unsigned char byte) const {
  while (true) {
    if (const std::int32_t to = child(node, byte); to != 0) return to;
    if (node == 0) return 0;
    node = nodes_[static_cast<std::size_t>(node)].fallback;
  }
}

void StringMatcher::find(std::string_view text, const std::function<void(const Match&)>& found) const {
  if (empty()) return;
  std::vector<std::int32_t> starts;  // At each position of the window: the longest string that begins there.
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t begin = at;
    const std::size_t end = std::min(text.size(), begin + kWindow);
    starts.assign(end - begin, -1);
    std::int32_t node = 0;
    for (std::size_t i = std::min(text.size(), end + longest_); i-- > begin;) {
      node = next(node, static_cast<unsigned char>(text[i]));
      if (i < end) starts[i - begin] = nodes_[static_cast<std::size_t>(node)].longest;
    }
    while (at < end) {
      const std::int32_t index = starts[at - begin];
      if (index < 0) {
        ++at;
        continue;
      }
      const auto i = static_cast<std::size_t>(index);
      found({at, at + lengths_[i], i});
      at += lengths_[i];
    }
  }
}

}  // namespace tte::text
