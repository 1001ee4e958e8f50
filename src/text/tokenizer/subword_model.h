// The last step of encoding: a word, already normalised and cut out, becomes token ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tte::text {

// Lets a map of strings be searched by string_view.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};
template <typename V>
using TextMap = std::unordered_map<std::string, V, TextHash, std::equal_to<>>;

// Token strings and their ids, shared by a model and the tokenizer around it.
using Vocabulary = TextMap<std::int32_t>;

// Immutable and safe to use from many threads.
class SubwordModel {
 public:
  virtual ~SubwordModel() = default;
  // Appends the ids of `word` (UTF-8, not empty).
  virtual void encode(std::string_view word, std::vector<std::int64_t>& ids) const = 0;
};

// The alphabet of byte-level BPE: each byte as one printable character of the vocabulary's strings.
// The byte that `code_point` stands for, -1 if none.
int byte_of_alphabet(char32_t code_point);
// Bytes that a byte-level vocabulary string stands for; false if a character is not of the alphabet.
bool bytes_of_token(std::string_view token, std::string& bytes);
// The vocabulary string of a byte.
std::string alphabet_of_byte(unsigned char byte);

// The byte of a fallback token "<0xNN>", -1 for any other string.
int fallback_byte(std::string_view token);

}  // namespace tte::text
