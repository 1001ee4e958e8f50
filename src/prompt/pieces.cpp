#include "prompt/pieces.h"

namespace tte::prompt {

void visit_piece(std::string_view piece, const std::function<void(std::string_view)>& text,
                 const std::function<void(std::string_view)>& placeholder) {
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  std::size_t begin = 0;
  for (std::size_t i = 0; i < piece.size(); ++i) {
    if (piece[i] != '{') continue;
    std::size_t end = i + 1;
    while (end < piece.size() && is_name(piece[end])) ++end;
    if (end == i + 1 || end == piece.size() || piece[end] != '}') continue;
    if (i > begin) text(piece.substr(begin, i - begin));
    placeholder(piece.substr(i + 1, end - i - 1));
    i = end;
    begin = end + 1;
  }
  if (begin < piece.size()) text(piece.substr(begin));
}

std::vector<std::string> placeholders(std::string_view piece) {
  std::vector<std::string> names;
  visit_piece(
      piece, [](std::string_view) {}, [&](std::string_view name) { names.emplace_back(name); });
  return names;
}

}  // namespace tte::prompt
