#include "base/printable.h"

#include <fmt/core.h>

#include <cstdint>

#include "base/utf8.h"

namespace tte::base {
std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text, 0);
    const auto lead = static_cast<std::uint8_t>(text[0]);
    const bool plain = length > 1 || (length == 1 && lead >= 0x20 && lead != 0x7f);
    const std::string piece =
        plain ? std::string(text.substr(0, length)) : fmt::format("\\x{:02x}", static_cast<unsigned>(lead));
    if (out.size() + piece.size() > limit) return out + "...";
    out += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

}  // namespace tte::base
