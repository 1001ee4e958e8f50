#include "text/characters.h"

#include <gtest/gtest.h>

namespace tte::text {
namespace {

TEST(Characters, AreCountedAndCut) {
  EXPECT_EQ(count_characters("añ☃😀"), 4);
  EXPECT_EQ(count_characters(""), 0);
  EXPECT_EQ(substring("añ☃😀", 1, 2), "ñ☃");
  EXPECT_EQ(substring("añ☃😀", 3, 9), "😀");
  EXPECT_EQ(substring("añ", 5, 1), "");
  EXPECT_EQ(substring("añ", 1, -1), "");
}

TEST(Characters, AreStrippedAsPythonDoes) {
  EXPECT_EQ(strip(" \t\n\u3000a b\u00a0\x1c\x1f "), "a b");
  EXPECT_EQ(strip(" \n "), "");
  EXPECT_EQ(strip(" a ", nullptr, true, false), "a ");
  EXPECT_EQ(strip(" a ", nullptr, false, true), " a");
  const std::string marks = "ñ.";
  EXPECT_EQ(strip("ñ.añ.", &marks), "a");
}

TEST(Characters, ChangeTheirCaseAsPythonDoes) {
  EXPECT_EQ(upper("straße ñ"), "STRASSE Ñ");
  EXPECT_EQ(lower("ÉTÉ ΑΣ"), "été ας");
  EXPECT_EQ(capitalize("ÉTÉ à la MER"), "Été à la mer");
  EXPECT_EQ(capitalize(" abc"), " abc");
  EXPECT_EQ(capitalize("1abC"), "1abc");
  EXPECT_EQ(capitalize("ßa"), "Ssa");
}

}  // namespace
}  // namespace tte::text
