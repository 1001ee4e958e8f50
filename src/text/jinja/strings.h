// Python's string methods on UTF-8.
#pragma once

#include <cstdint>
#include <optional>
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
std::vector<std::string_view> split_lines(Budget& budget, std::string_view text);
// Refuses to replace an empty text.
std::string replace(Budget& budget, std::string_view text, std::string_view what, std::string_view by);
// Before `what` is looked for in `text`.
void pay_for_search(Budget& budget, std::string_view text, std::string_view what);

// int(text) of a whole number; none for a text without digits. Refuses other numbers.
std::optional<std::int64_t> parse_int(std::string_view text);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
// These refuse texts beyond ASCII.
std::string capitalize(std::string_view text);
std::string title(std::string_view text);         // str.title()
std::string title_filter(std::string_view text);  // Jinja's title, which knows other word boundaries.

}  // namespace tte::text::jinja
