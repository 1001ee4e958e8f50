// Python's string methods on UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace tte::text::jinja {

bool is_space(char32_t c);  // str.isspace()

// Where character `index` begins; the end of a text that has fewer.
std::size_t offset_of(std::string_view text, std::int64_t index);
std::int64_t length(std::string_view text);  // In characters.

// Without the characters of `chars` (white space if null) at the ends.
std::string_view strip(std::string_view text, const std::string* chars, bool left, bool right);
// str.split(separator, limit): at most `limit` cuts, all if negative.
std::vector<std::string_view> split(Budget& budget, std::string_view text, std::string_view separator,
                                    std::int64_t limit);
// Refuses to replace an empty text.
std::string replace(Budget& budget, std::string_view text, std::string_view what, std::string_view by);
// Before `what` is looked for in `text`.
void pay_for_search(Budget& budget, std::string_view text, std::string_view what);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
// The first letter as a capital, or that of each word, and the others small. Refuses a text beyond ASCII, and words of
// anything but letters, about whose ends Python's title() and Jinja's title disagree.
std::string with_capitals(std::string_view text, bool each_word);

}  // namespace tte::text::jinja
