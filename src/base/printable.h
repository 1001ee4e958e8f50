// Text from outside, made fit for an error message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tte::base {

// `text` as valid UTF-8 on one line: control characters and bytes that are not UTF-8 become \xNN, and what
// goes past `limit` bytes is cut (at a character boundary) and replaced by "...".
std::string printable(std::string_view text, std::size_t limit = 120);

}  // namespace tte::base
