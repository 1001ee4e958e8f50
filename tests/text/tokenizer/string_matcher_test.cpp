#include "text/tokenizer/string_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace tte::text {
namespace {

using Found = std::vector<std::tuple<std::size_t, std::size_t, std::size_t>>;

Found matches(const std::vector<std::string>& strings, const std::string& text) {
  Found found;
  StringMatcher(strings).find(
      text, [&](const StringMatcher::Match& m) { found.emplace_back(m.begin, m.end, m.index); });
  return found;
}

// By trying every string at every place.
Found tried(const std::vector<std::string>& strings, const std::string& text) {
  Found found;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t best = strings.size();
    for (std::size_t i = 0; i < strings.size(); ++i) {
      if (strings[i].empty() || text.compare(at, strings[i].size(), strings[i]) != 0) continue;
      if (best == strings.size() || strings[i].size() > strings[best].size()) best = i;
    }
    if (best == strings.size()) {
      ++at;
      continue;
    }
    found.emplace_back(at, at + strings[best].size(), best);
    at += strings[best].size();
  }
  return found;
}

TEST(StringMatcher, LeftmostThenLongest) {
  EXPECT_EQ(matches({"abcd", "bc", "cde"}, "abce"), (Found{{1, 3, 1}}));
  EXPECT_EQ(matches({"ab", "abc", "c"}, "abcab"), (Found{{0, 3, 1}, {3, 5, 0}}));
  EXPECT_EQ(matches({"b", "ba", "a"}, "aba"), (Found{{0, 1, 2}, {1, 3, 1}}));
  EXPECT_EQ(matches({"", "x", "x"}, "xyx"), (Found{{0, 1, 1}, {2, 3, 1}}));
  EXPECT_TRUE(matches({}, "abc").empty());
  EXPECT_TRUE(matches({"abc"}, "").empty());
}

TEST(StringMatcher, EqualsTryingForRandomStrings) {
  std::mt19937 random(1);
  const auto draw = [&](std::size_t most, int letters) {
    std::string text;
    for (std::size_t n = random() % (most + 1); n > 0; --n)
      text += static_cast<char>('a' + random() % letters);
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> strings;
    for (std::size_t n = random() % 8; n > 0; --n) strings.push_back(draw(6, 3));
    const std::string text = draw(40, 3);
    EXPECT_EQ(matches(strings, text), tried(strings, text)) << text;
  }
}

TEST(StringMatcher, WindowsOfALongTextDoNotShow) {
  std::mt19937 random(2);
  std::string text(300'000, 'x');
  for (char& c : text) c = static_cast<char>('a' + random() % 2);
  const std::vector<std::string> strings = {"abbaab", std::string(40, 'a'), "bab", "aaaa",
                                            std::string(14, 'b')};
  EXPECT_EQ(matches(strings, text), tried(strings, text));
  const std::string run(200'000, 'a');
  EXPECT_EQ(matches({"aaa", std::string(70'000, 'a')}, run), tried({"aaa", std::string(70'000, 'a')}, run));
}

// Every position is the beginning of 4095 bytes of a string that then does not come.
TEST(StringMatcher, NearlyMatchingIsLinear) {
  const std::string text(4'000'000, 'a');
  std::size_t count = 0;
  StringMatcher({"a", std::string(4095, 'a') + "b", "b" + std::string(4095, 'a')})
      .find(text, [&](const StringMatcher::Match&) { ++count; });
  EXPECT_EQ(count, text.size());
}

}  // namespace
}  // namespace tte::text
