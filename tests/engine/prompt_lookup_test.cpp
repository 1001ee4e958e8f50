#include "engine/prompt_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_model.h"

namespace tte::engine::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Ids = std::vector<std::int64_t>;

TEST(PromptLookup, GuessesWhatFollowedTheLastThreeTokens) {
  PromptLookup lookup(Ids{1, 2, 3, 4, 5, 6, 7, 8, 9});
  EXPECT_THAT(lookup.guess(8), IsEmpty());
  lookup.accept(2);
  lookup.accept(3);
  EXPECT_THAT(lookup.guess(8), IsEmpty()) << "two stand there again, and 9 is not before them";
  lookup.accept(4);
  EXPECT_THAT(lookup.guess(8), ElementsAre(5, 6, 7, 8));
  EXPECT_THAT(lookup.guess(2), ElementsAre(5, 6));
  EXPECT_THAT(lookup.guess(0), IsEmpty());
}

TEST(PromptLookup, TakesTheLatestPlace) {
  PromptLookup lookup(Ids{1, 2, 3, 10, 1, 2, 3, 20, 1, 2, 3});
  EXPECT_THAT(lookup.guess(1), ElementsAre(20));
}

TEST(PromptLookup, GuessesNoFurtherThanItKnows) {
  PromptLookup lookup(Ids{7, 7, 7, 7});
  EXPECT_THAT(lookup.guess(8), ElementsAre(7));
  EXPECT_THAT(PromptLookup(Ids{7, 7, 7}).guess(8), IsEmpty());
  EXPECT_THAT(PromptLookup(Ids{}).guess(8), IsEmpty());
}

TEST(PromptLookup, GuessesMoreWhereItWasRight) {
  Ids text;
  for (int i = 0; i < 40; ++i) text.push_back(i);
  for (int i = 0; i < 3; ++i) text.push_back(i);
  PromptLookup lookup(text);
  const auto guesses = [&] { return std::ssize(lookup.guess(16)); };
  EXPECT_EQ(guesses(), 4);
  lookup.judge(4, 4);
  EXPECT_EQ(guesses(), 8);
  lookup.judge(8, 2);
  EXPECT_EQ(guesses(), 3);
  lookup.judge(3, 0);
  EXPECT_EQ(guesses(), 1);
  lookup.judge(0, 0);
  EXPECT_EQ(guesses(), 1) << "nothing was guessed, nothing is known";
}

// A model that says the same few things again and again, now and then otherwise: some guesses are right.
std::int64_t repetitive(const Ids& ids) {
  std::uint64_t hash = ids.size() / 23;
  for (std::size_t i = ids.size() - std::min<std::size_t>(ids.size(), 2); i < ids.size(); ++i)
    hash = (hash ^ static_cast<std::uint64_t>(ids[i])) * 0x9E3779B97F4A7C15;
  return 'a' + static_cast<std::int64_t>((hash >> 40) % 4);
}

std::string outcomes(const FakeModel::Options& model, const EngineOptions& options,
                     BackendStats* stats = nullptr) {
  Bench bench(model, options);
  std::string all =
      testing::outcomes([&](GenerateRequest request) { return bench.engine->submit(std::move(request)); });
  if (stats != nullptr) *stats = bench.engine->stats();
  return all;
}

TEST(PromptLookup, NoTokenIsAnother) {
  FakeModel::Options model;
  model.next = repetitive;
  BackendStats plain, looked;
  const std::string expected = outcomes(model, limits(64, 8), &plain);
  EXPECT_EQ(outcomes(model, limits(64, 8, 8), &looked), expected);
  EXPECT_EQ(plain.guessed_tokens, 0);
  EXPECT_GT(looked.right_guesses, 0);
  EXPECT_GT(looked.guessed_tokens, looked.right_guesses) << "some have to be wrong for this to be a test";
  EXPECT_EQ(looked.decode_tokens, plain.decode_tokens);
  EXPECT_EQ(looked.prefill_tokens, plain.prefill_tokens);
  EXPECT_LT(looked.steps, plain.steps);
  for (const auto& [step_tokens, running] : {std::pair(9, 8), std::pair(64, 1), std::pair(3, 3)})
    EXPECT_EQ(outcomes(model, limits(step_tokens, running, 8)), expected) << step_tokens;
  model.capacity = 400;  // Sequences pause for each other.
  EXPECT_EQ(outcomes(model, limits(64, 8, 8)), expected);
}

TEST(PromptLookup, StatesThatCannotBeCutAreNotGuessedFor) {
  FakeModel::Options model;
  model.next = repetitive;
  const std::string expected = outcomes(model, limits(64, 8));
  model.slot = 10;
  BackendStats stats;
  EXPECT_EQ(outcomes(model, limits(64, 8, 8), &stats), expected);
  EXPECT_EQ(stats.guessed_tokens, 0);
}

TEST(PromptLookup, ATraceThatQuotesTakesFewSteps) {
  FakeModel::Options model;  // Says what stands 30 tokens before.
  model.next = [](const Ids& ids) { return ids.size() < 30 ? 'z' : ids[ids.size() - 30]; };
  Bench bench(model, limits(64, 8, 8));
  std::string text = "abcdefghijklmnopqrstuvwxyz0123";
  auto request = generate_request(make_prompt({text}), 61);
  request.options.ignore_eos = true;
  const Ids written = bench.engine->submit(std::move(request)).get().ids;
  const BackendStats stats = bench.engine->stats();
  EXPECT_EQ(written.size(), 61U);
  EXPECT_EQ(stats.right_guesses, stats.guessed_tokens);
  EXPECT_LT(stats.steps, 14);
  // Its state holds what was written and nothing else: who goes on with it reads only what is new.
  for (const std::int64_t id : written) text += static_cast<char>(id);
  EXPECT_EQ(bench.encode(make_prompt({text})).get().reused_tokens, 30 + 60);
}

TEST(PromptLookup, StepsWithManySequencesAreLeftAsTheyAre) {
  FakeModel::Options model;
  model.next = [](const Ids&) { return 'a'; };
  Bench bench(model, limits(64, 32, 8));
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<GenerateResult>> futures;
  for (int i = 0; i < 20; ++i) {
    auto request = generate_request(text_prompt(1, static_cast<std::uint64_t>(i)), 12);
    futures.push_back(bench.engine->submit(std::move(request)));
  }
  hold->let_go();
  for (auto& future : futures) future.get();
  for (const auto& step : bench.model->steps()) EXPECT_LE(step.total(), 20);
}

}  // namespace
}  // namespace tte::engine::testing
