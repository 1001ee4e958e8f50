// Python's string methods on UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tte::text::jinja {

// str.isspace() of one character.
bool is_space(char32_t c);
std::vector<std::string_view> characters(std::string_view text);
std::int64_t length(std::string_view text);  // In characters.

// Without the characters of `chars` (white space if null) at the ends.
std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right);
// str.split / rsplit; `separator` null: at runs of white space. At most `limit` cuts, all if negative.
std::vector<std::string_view> split(std::string_view text, const std::string* separator, std::int64_t limit,
                                    bool from_right);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
// At most `limit` replacements, all if negative.
std::string replace(std::string_view text, std::string_view what, std::string_view by, std::int64_t limit);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);         // str.title()
std::string title_filter(std::string_view text);  // Jinja's title, which knows other word boundaries.

}  // namespace tte::text::jinja
