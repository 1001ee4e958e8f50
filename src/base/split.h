// The parts of a text between separators.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace tte::base {

// One more than there are separators. They are views of `text`. (Clang before 16 has no std::views::split.)
inline std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace tte::base
