// Finds the strings of added tokens in raw text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/string_matcher.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::text {

// A part of a text: an added token, or (id < 0) what lies between.
struct Segment {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::int64_t id = -1;
};

// Cuts added tokens out of a text by the rules of the tokenizers library. Immutable and safe to use from many
// threads.
class AddedTokenMatcher {
 public:
  struct Entry {
    std::string content;  // What is looked for: the token's content, normalised if the token is.
    AddedToken token;
  };
  AddedTokenMatcher() = default;
  // With `skip_special`, special tokens stay text.
  AddedTokenMatcher(const std::vector<Entry>& entries, bool skip_special);

  // All of `text` (UTF-8) as segments in order. Tokens that take the blanks beside them may overlap.
  void cut(std::string_view text, std::vector<Segment>& segments) const;

 private:
  StringMatcher matcher_;
  std::vector<AddedToken> tokens_;
  bool skip_special_ = false;
};

}  // namespace tte::text
