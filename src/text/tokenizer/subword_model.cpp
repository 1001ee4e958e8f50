#include "text/tokenizer/subword_model.h"
#include "base/utf8.h"

#include <array>
#include <charconv>

namespace tte::text {
namespace {

// Printable Latin-1 stands for itself; the 68 other bytes are U+0100 onwards, in order.
bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int kAlphabetEnd = 0x100 + 68;

struct Alphabet {
  std::array<char32_t, 256> of_byte{};
  std::array<int, kAlphabetEnd> to_byte{};
  Alphabet() {
    to_byte.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t c = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
      of_byte[static_cast<std::size_t>(byte)] = c;
      to_byte[c] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

int byte_of_alphabet(char32_t code_point) {
  return code_point < kAlphabetEnd ? alphabet().to_byte[code_point] : -1;
}

bool bytes_of_token(std::string_view token, std::string& bytes) {
  bytes.clear();
  for (std::size_t at = 0; at < token.size();) {
    const int byte = byte_of_alphabet(base::next_code_point(token, at));
    if (byte < 0) return false;
    bytes.push_back(static_cast<char>(byte));
  }
  return true;
}

std::string alphabet_of_byte(unsigned char byte) {
  std::string out;
  base::append_code_point(out, alphabet().of_byte[byte]);
  return out;
}

int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc{} && end == token.data() + 5 && value >= 0 ? value : -1;
}

}  // namespace tte::text
