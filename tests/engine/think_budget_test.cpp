#include "engine/think_budget.h"

#include <gtest/gtest.h>

namespace tte::engine {
namespace {

using Ids = std::vector<std::int64_t>;

// What a sequence looks like whose model wants to write `wanted`.
Ids written(std::optional<int> limit, const Ids& open, const Ids& close, const Ids& prompt,
            const Ids& wanted) {
  ThinkBudget budget(limit, open, close, prompt);
  Ids result;
  for (const std::int64_t id : wanted) {
    for (int i = 0; i < 20; ++i) {
      const auto forced = budget.forced();
      if (!forced) break;
      budget.accept(*forced);
      result.push_back(*forced);
    }
    budget.accept(id);
    result.push_back(id);
  }
  return result;
}

TEST(ThinkBudget, WithoutALimitNothingIsForced) {
  EXPECT_EQ(written(std::nullopt, {}, {}, {1}, {1, 5, 5, 5}), (Ids{1, 5, 5, 5}));
}

TEST(ThinkBudget, ClosesWhatTheModelOpened) {
  EXPECT_EQ(written(2, {1}, {2}, {9}, {5, 1, 5, 6, 7}), (Ids{5, 1, 5, 6, 2, 7}));
}

TEST(ThinkBudget, ClosesWhatThePromptOpened) {
  EXPECT_EQ(written(2, {1}, {2}, {9, 1, 8}, {5, 6, 7}), (Ids{5, 6, 2, 7}));
  EXPECT_EQ(written(0, {1}, {2}, {9, 1}, {5}), (Ids{2, 5}));
  EXPECT_EQ(written(1, {1}, {2}, {1, 2}, {5, 6}), (Ids{5, 6})) << "the prompt closed it itself";
}

TEST(ThinkBudget, AThoughtThatEndsInTimeIsLeftAlone) {
  EXPECT_EQ(written(3, {1}, {2}, {1}, {5, 2, 7, 7, 7, 7}), (Ids{5, 2, 7, 7, 7, 7}));
}

TEST(ThinkBudget, OpeningAgainDoesNotRenewTheBudget) {
  EXPECT_EQ(written(2, {1}, {2}, {1}, {5, 5, 7, 1, 7}), (Ids{5, 5, 2, 7, 1, 2, 7}));
}

TEST(ThinkBudget, TagsOfSeveralTokens) {
  const Ids open{1, 3}, close{1, 4, 3};
  EXPECT_EQ(written(2, open, close, {1}, {3, 5, 6, 7}), (Ids{3, 5, 6, 1, 4, 3, 7}))
      << "opened across the prompt's end";
  EXPECT_EQ(written(2, open, close, {1, 3}, {5, 1, 7}), (Ids{5, 1, 4, 3, 7}))
      << "begun by the model, ended by force";
}

}  // namespace
}  // namespace tte::engine
