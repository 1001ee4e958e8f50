// What texts must be before anything is made of them: UTF-8, and not too long.
#pragma once

#include <cstddef>
#include <string_view>

namespace tte::text {

// The most bytes of one text: more than any model reads, and few enough that what tokenisation needs beside
// them (some hundred bytes for each) fits into memory.
inline constexpr std::size_t kMostTextBytes = std::size_t{8} << 20;
// Throws InputError for a text of more bytes.
void require_size(std::string_view text);

// Throws InputError naming the offset of the first byte that is not UTF-8.
void require_utf8(std::string_view text);

}  // namespace tte::text
