#include "text/tokenizer/splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tte/error.h"

namespace tte::text {
namespace {

std::vector<std::string> pieces(const Splitter& splitter, std::string_view text,
                                Splitter::Behavior behavior = Splitter::Behavior::kIsolated,
                                bool invert = false) {
  std::vector<std::string> out;
  for (const Range& r : split(splitter, text, behavior, invert))
    out.emplace_back(text.substr(r.begin, r.end - r.begin));
  return out;
}

const char* const kTexts[] = {
    "Hello, world!  It's we'LL 'S don'T",
    "a\n\nb \r\n c\t\td  \n",
    "   leading and trailing   ",
    "12345 x1y2 3.14",
    "e\u0301 a\u0308b \u0301x",
    "\u4e2d\u6587\u3001\u65e5\u672c\u8a9e \uc548\ub155 \u0645\u0631\u062d\u0628\u0627",
    "\u00a0\u3000x\u2028y\u0085z\x0b\x0c",
    "!!!\n\n??? ...\r\n",
    "'\u017f '\u017fx \u00bd\u00b2\u2167",
    "",
    " ",
    "\U0001F469\u200D\U0001F469\u200D\U0001F467",
};

// The scanner that is written by hand cuts as the regular expression that it stands for does in Oniguruma.
TEST(Splitter, ScannerEqualsRegex) {
  for (const std::string_view pattern : {kQwen2Pattern, kQwen35Pattern, kLlama3Pattern}) {
    const auto scanner = Splitter::from_regex(std::string(pattern), "test");
    const auto regex = Splitter::from_regex("(?:" + std::string(pattern) + ")", "test");
    for (const char* text : kTexts)
      EXPECT_EQ(pieces(*scanner, text), pieces(*regex, text)) << pattern << "\n" << text;
  }
}

TEST(Splitter, Behaviors) {
  const auto dash = Splitter::from_string("-");
  using B = Splitter::Behavior;
  using ::testing::ElementsAre;
  const std::string text = "the-final--countdown";  // The example of the tokenizers library.
  EXPECT_THAT(pieces(*dash, text, B::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(pieces(*dash, text, B::kIsolated), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(pieces(*dash, text, B::kMergedWithPrevious), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(pieces(*dash, text, B::kMergedWithNext), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(pieces(*dash, text, B::kContiguous), ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(pieces(*dash, text, B::kRemoved, true), ElementsAre("-", "-", "-"));
}

TEST(Splitter, SpacesAreUnicodes) {
  // In ICU's own \s there is no U+000B and no U+0085.
  const auto spaces = Splitter::from_regex("\\s+", "test");
  EXPECT_THAT(pieces(*spaces, "a\x0b\u0085 b"), ::testing::ElementsAre("a", "\x0b\u0085 ", "b"));
}

TEST(Splitter, MatchesMayBeEmpty) {
  const auto before = Splitter::from_regex("(?=a)", "test");
  EXPECT_THAT(pieces(*before, "bab"), ::testing::ElementsAre("b", "ab"));
  std::vector<Range> matches;
  Splitter::from_regex("x*", "test")->find("xxy", matches);  // Not right behind a match, and at the end.
  ASSERT_EQ(matches.size(), 2);
  EXPECT_EQ(matches[0].end, 2);
  EXPECT_EQ(matches[1].begin, 3);
}

TEST(Splitter, LongTextsAreCutAsShortOnesAre) {
  const std::string unit = "ab  \u4e2d 12345\n\naaab \u2028x";
  for (const char* pattern :
       {"a+b", "(?=a)", "^\\s+|\\s+$", "(?<=a)b|\\p{N}{1,3}+", "x*", " ?[^\\s\\p{N}]+"}) {
    const auto splitter = Splitter::from_regex(pattern, "test");
    std::string text = unit;
    while (text.size() <= 1024) text += unit;
    std::vector<std::string> twice = pieces(*splitter, text + "#");
    const std::vector<std::string> rest = pieces(*splitter, text + "#" + text + "#");
    ASSERT_LE(twice.size(), rest.size());
    twice.pop_back();  // What goes on behind it.
    EXPECT_TRUE(std::equal(twice.begin(), twice.end(), rest.begin())) << pattern;
  }
}

TEST(Splitter, BadPatternsNameTheFile) {
  const std::string deep(50'000, '(');
  for (const std::string& pattern : {std::string("("), std::string("[a"), std::string("\\p{Nothing}"),
                                     std::string("\\Ga"), deep + "a" + std::string(deep.size(), ')')})
    EXPECT_THROW(Splitter::from_regex(pattern, "x.json"), ModelError) << pattern.substr(0, 20);
}

TEST(Splitter, PatternsWithoutBoundEnd) {
  for (const std::size_t size : {2000, 3000}) {
    for (const char* pattern : {"(a+)+b", "(a|aa)+b"})
      EXPECT_THROW(pieces(*Splitter::from_regex(pattern, "test"), std::string(size, 'a')), InputError)
          << pattern;
  }
}

TEST(Splitter, LongTextsAreLinear) {
  const auto scanner = Splitter::from_regex(std::string(kQwen2Pattern), "test");
  for (const char* unit : {"a", " ", "\n", "'", "1", " a", "\u0301", "\u3000"}) {
    std::string text;
    for (int i = 0; i < 200000; ++i) text += unit;
    EXPECT_FALSE(pieces(*scanner, text).empty());
  }
}

}  // namespace
}  // namespace tte::text
