#include "prompt/evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tte::prompt {
namespace {

using ::testing::ElementsAre;

EvidenceRule rule() {
  return {.open = "<t>",
          .close = "</t>",
          .behind = "\n",
          .boxes = "boxes",
          .scale = 1000,
          .frames = "frames",
          .frame_pixels = {},
          .min_side = 10,
          .max_aspect = 50,
          .most = 3};
}

TEST(Evidence, TakesATraceApart) {
  const auto found =
      evidence_of(R"(so <t>it {"boxes": [[1, 2, 3, 4.5, 6], "x", [1], [5, 6, 7, 8]]} is</t>  red
)",
                  rule());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->head, "<t>it {\"boxes\": [[1, 2, 3, 4.5, 6], \"x\", [1], [5, 6, 7, 8]]} is</t>\n");
  EXPECT_EQ(found->tail, "red");
  ASSERT_EQ(found->boxes.size(), 2U);
  EXPECT_THAT(found->boxes[0], ElementsAre(1, 2, 3, 4.5));
  EXPECT_TRUE(found->frames.empty());
}

TEST(Evidence, FramesCountWhereThereAreNoBoxesAndNoMoreThanTheRuleAllows) {
  EXPECT_THAT(evidence_of(R"(<t>{"frames": [7, -1, 0.5, "2", 3, 3, 9]}</t>)", rule())->frames,
              ElementsAre(7, 3, 3));
  EXPECT_TRUE(evidence_of(R"(<t>{"frames": [7], "boxes": null}</t>)", rule())->frames.empty());
  EXPECT_TRUE(evidence_of(R"(<t>{"frames": {"a": 7}}</t>)", rule())->frames.empty());
}

TEST(Evidence, ATraceWithoutTagsOrJsonPointsAtNothing) {
  EXPECT_FALSE(evidence_of("", rule()));
  EXPECT_FALSE(evidence_of(R"({"boxes": []})", rule()));
  EXPECT_FALSE(evidence_of(R"(<t>{"boxes": []})", rule()));
  EXPECT_FALSE(evidence_of(R"(</t>{"boxes": []}<t>)", rule()));
  EXPECT_FALSE(evidence_of("<t>{boxes}</t>", rule()));
  EXPECT_FALSE(evidence_of(R"(<t>{"boxes": [NaN]}</t>)", rule()));
  EXPECT_FALSE(evidence_of(R"(<t>{"boxes": []}</t>)", {}));
  // Braces in braces: the inner object is the first that holds none.
  EXPECT_EQ(evidence_of(R"(<t>{"a": {"frames": [1]}}</t>)", rule())->frames.size(), 1U);
}

TEST(Evidence, BoxesAreCutAtTheSidesOfTheImage) {
  const media::Size size{200, 400};
  const auto crop = crop_of({100, 250, 505, 2000}, size, rule());
  ASSERT_TRUE(crop);
  EXPECT_EQ(crop->left, 40);
  EXPECT_EQ(crop->top, 50);
  EXPECT_EQ(crop->width, 162);
  EXPECT_EQ(crop->height, 150);
  EXPECT_TRUE(crop_of({-1e300, -5, 1e300, 1000}, size, rule()));
  EXPECT_FALSE(crop_of({500, 500, 100, 100}, size, rule())) << "reversed";
  EXPECT_FALSE(crop_of({0, 0, 24, 1000}, size, rule())) << "9 pixels wide";
  EXPECT_FALSE(crop_of({0, 0, 1000, 10}, {600, 1000}, rule())) << "6 pixels high";
  EXPECT_FALSE(crop_of({0, 0, 1000, 100}, {100, 600}, rule())) << "60 times as wide as high";
}

}  // namespace
}  // namespace tte::prompt
