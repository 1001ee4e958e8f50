// A template's text as tokens, with whitespace control as transformers sets it (trim_blocks, lstrip_blocks).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tte::text::jinja {

struct Token {
  // A mark is a sign of a tag: its begin and end, an operator, a bracket.
  enum class Kind { kData, kName, kString, kNumber, kMark, kEnd };
  Kind kind = Kind::kEnd;
  std::string text;  // What a string means.
  int line = 1;
};

// `line` is where it has come to, also where it throws a Failure.
std::vector<Token> tokenize(std::string_view source, int& line);

}  // namespace tte::text::jinja
