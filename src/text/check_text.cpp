#include "text/check_text.h"

#include <fmt/core.h>

#include "base/utf8.h"
#include "tte/error.h"

namespace tte::text {

void require_size(std::string_view text) {
  if (text.size() <= kMostTextBytes) return;
  throw InputError(fmt::format("The text has {} bytes: at most {} are read at once; cut it into parts.",
                               text.size(), kMostTextBytes));
}

void require_utf8(std::string_view text) {
  const std::size_t at = base::find_invalid(text);
  if (at == std::string_view::npos) return;
  throw InputError(fmt::format(
      "The text is not UTF-8: byte 0x{:02X} at offset {} of {}; decode it with its own encoding first.",
      static_cast<unsigned char>(text[at]), at, text.size()));
}

}  // namespace tte::text
