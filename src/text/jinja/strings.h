// Python's string methods on UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace tte::text::jinja {

// str.isspace(), isalpha(), isdigit(), isnumeric() and isalnum() of one character.
bool is_space(char32_t c);
bool is_letter(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_letter_or_numeric(char32_t c);
// str.isupper() or str.islower().
bool is_cased(std::string_view text, bool upper);

// Where the character before `at` begins.
std::size_t previous(std::string_view text, std::size_t at);
std::vector<std::string_view> characters(std::string_view text);
// Where character `index` begins; the end of a text that has fewer.
std::size_t offset_of(std::string_view text, std::int64_t index);
std::int64_t length(std::string_view text);  // In characters.

// Without the characters of `chars` (white space if null) at the ends.
std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right);
// str.split / rsplit; `separator` null: at runs of white space. At most `limit` cuts, all if negative.
std::vector<std::string_view> split(Budget& budget, std::string_view text, const std::string* separator,
                                    std::int64_t limit, bool from_right);
std::vector<std::string_view> split_lines(Budget& budget, std::string_view text, bool keep_ends);
// At most `limit` replacements, all if negative.
std::string replace(Budget& budget, std::string_view text, std::string_view what, std::string_view by,
                    std::int64_t limit);
// out += a + b, as long as the text may be.
void append(Budget& budget, std::string& out, std::string_view a, std::string_view b);

// int(text, base) and float(text); none for a text that is no number. Throw Failure for numbers that do not
// fit, and for what only Python reads.
std::optional<std::int64_t> parse_int(std::string_view text, std::int64_t base);
std::optional<double> parse_float(std::string_view text);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);         // str.title()
std::string title_filter(std::string_view text);  // Jinja's title, which knows other word boundaries.

}  // namespace tte::text::jinja
