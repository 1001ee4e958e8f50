#include "engine/output_text.h"

#include <gtest/gtest.h>

#include "engine/fake_model.h"

namespace tte::engine::testing {
namespace {

// What each token releases, then what finish() does.
std::vector<std::string> pieces(const std::vector<std::int64_t>& ids, std::vector<std::string> stop) {
  OutputText text(std::make_shared<FakeTokenizer>(), std::move(stop));
  std::vector<std::string> result;
  for (const std::int64_t id : ids) result.push_back(text.push(id));
  result.push_back(text.finish());
  std::string whole;
  for (const std::string& piece : result) whole += piece;
  EXPECT_EQ(text.text(), whole);
  return result;
}

using Pieces = std::vector<std::string>;

TEST(OutputText, ReleasesWholeCharactersOnly) {
  EXPECT_EQ(pieces(bytes_of("a\xC3\xA9z"), {}), (Pieces{"a", "", "\xC3\xA9", "z", ""}));
}

TEST(OutputText, HoldsBackWhatMayBeginAStopString) {
  EXPECT_EQ(pieces(bytes_of("abcabd!"), {"abd"}), (Pieces{"", "", "abc", "", "", "", "", ""}));
  EXPECT_EQ(pieces(bytes_of("aab"), {"ab"}), (Pieces{"", "a", "", ""}));
}

TEST(OutputText, ReleasesHeldTextWhenNoMoreComes) {
  EXPECT_EQ(pieces(bytes_of("xab"), {"abd"}), (Pieces{"x", "", "", "ab"}));
}

TEST(OutputText, StopStringsMayBeSplitInsideACharacter) {
  const std::string stop = "\xE2\x82\xAC\xE2\x82\xAC";  // Two euro signs, six tokens.
  const std::string euro = "\xE2\x82\xAC";
  EXPECT_EQ(pieces(bytes_of("1" + euro + "2" + euro + euro + "3"), {stop}),
            (Pieces{"1", "", "", "", euro + "2", "", "", "", "", "", "", "", ""}));
}

TEST(OutputText, TheEarliestStopStringWins) {
  OutputText text(std::make_shared<FakeTokenizer>(), {"c", "ab"});
  for (const std::int64_t id : bytes_of("xabc")) text.push(id);
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(text.text(), "x");
}

TEST(OutputText, SpecialAndUnknownTokensHaveNoText) {
  EXPECT_EQ(pieces({97, kEos, kModelVocab - 1, 98}, {}), (Pieces{"a", "", "", "b", ""}));
  EXPECT_EQ(pieces({kThink, kThinkEnd}, {}), (Pieces{"<think>", "</think>", ""}));
}

}  // namespace
}  // namespace tte::engine::testing
