// Characters of UTF-8 text (one a code point), with Python's meaning of white space and of upper and lower case.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tte::text {

bool is_space(char32_t c);  // str.isspace()

std::int64_t count_characters(std::string_view text);
// The `count` characters from `first` on, or as many as there are.
std::string_view substring(std::string_view text, std::int64_t first, std::int64_t count);

// Without the characters of `chars` (white space if null) at the ends.
std::string_view strip(std::string_view text, const std::string* chars = nullptr, bool left = true,
                       bool right = true);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);

}  // namespace tte::text
