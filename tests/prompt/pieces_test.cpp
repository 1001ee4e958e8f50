#include "prompt/pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tte::prompt {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Pieces, NamesInTheirOrder) {
  EXPECT_THAT(placeholders("{media} a {instruction}{text}"), ElementsAre("media", "instruction", "text"));
}

TEST(Pieces, OtherBracesAreText) {
  EXPECT_THAT(placeholders("{\"a\": 1} {} {Text} {a b} {a1} {text"), IsEmpty());
  EXPECT_THAT(placeholders("{{text}}"), ElementsAre("text"));
}

TEST(Pieces, VisitsEveryByteOnce) {
  std::string out;
  visit_piece(
      "{a}x{{b}y{", [&](std::string_view text) { out += text; },
      [&](std::string_view name) { out.append("<").append(name).append(">"); });
  EXPECT_EQ(out, "<a>x{<b>y{");
}

}  // namespace
}  // namespace tte::prompt
