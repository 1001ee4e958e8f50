#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace tte::base {
namespace {

struct Case {
  std::string bytes, text;
};

// The right column is Python's bytes.decode("utf-8", errors="replace").
const Case kCases[] = {
    {"abc", "abc"},
    {"\xC3\xA9", "\xC3\xA9"},
    {"\xFF", "\uFFFD"},
    {"a\xE4\xBD", "a\uFFFD"},                // Cut off.
    {"\xE4\xBD\x41", "\uFFFD\x41"},          // Broken off.
    {"\xC0\x80", "\uFFFD\uFFFD"},            // Overlong.
    {"\xE0\x80\x80", "\uFFFD\uFFFD\uFFFD"},  // Overlong.
    {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},  // A surrogate.
    {"\xF0\x9F\x98", "\uFFFD"},              // Cut off.
    {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
    {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // Past U+10FFFF.
    {"\xF0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // Overlong.
    {"\x80\xBF", "\uFFFD\uFFFD"},
    {"\xF1\x80\x80\xE1\x80\xC2\x62", "\uFFFD\uFFFD\uFFFD\x62"},
};

TEST(Utf8, ReplacesAsPythonDoes) {
  for (const Case& c : kCases) {
    std::string text;
    append_replaced(text, c.bytes);
    EXPECT_EQ(text, c.text) << ::testing::PrintToString(c.bytes);
    EXPECT_EQ(find_invalid(c.bytes) == std::string::npos, c.bytes == c.text);
  }
}

TEST(Utf8, CodePointsComeBack) {
  for (const char32_t c :
       {U'\x00', U'a', U'\x7F', U'\x80', U'\u07FF', U'\u0800', U'\uFFFF', U'\U00010000', U'\U0010FFFF'}) {
    std::string text;
    append_code_point(text, c);
    std::size_t at = 0;
    EXPECT_EQ(next_code_point(text, at), c);
    EXPECT_EQ(at, text.size());
    EXPECT_EQ(sequence_length(text, 0), text.size());
  }
}

}  // namespace
}  // namespace tte::base
