// UTF-8, read strictly: what is not well-formed is an error on the way in and U+FFFD on the way out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tte::base {

// Length of the well-formed sequence at `text[at]`, 0 if there is none. Surrogates and overlong forms are not
// well-formed.
std::size_t sequence_length(std::string_view text, std::size_t at);

// Bytes at `text[at]` that one U+FFFD stands for: the longest prefix of a well-formed sequence, at least one byte.
// `incomplete` is set when that prefix reaches the end of the text, so that more bytes could complete it.
std::size_t broken_length(std::string_view text, std::size_t at, bool& incomplete);

// Whether the byte at `text[at]` goes on with a character that began before it.
inline bool continues_character(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

// Offset of the first byte that is not UTF-8, npos if all is well.
std::size_t find_invalid(std::string_view text);

// The code point at `text[at]`, which moves past it. `text` is well-formed.
inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return byte(at++);
  if (lead < 0xE0) {
    at += 2;
    return ((lead & 0x1F) << 6) | (byte(at - 1) & 0x3F);
  }
  if (lead < 0xF0) {
    at += 3;
    return ((lead & 0x0F) << 12) | ((byte(at - 2) & 0x3Fu) << 6) | (byte(at - 1) & 0x3F);
  }
  at += 4;
  return ((lead & 0x07) << 18) | ((byte(at - 3) & 0x3Fu) << 12) | ((byte(at - 2) & 0x3Fu) << 6) |
         (byte(at - 1) & 0x3F);
}

void append_code_point(std::string& out, char32_t code_point);

// Appends `bytes` with U+FFFD for what is not UTF-8, as Python's bytes.decode(errors="replace").
void append_replaced(std::string& out, std::string_view bytes);

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace tte::base
