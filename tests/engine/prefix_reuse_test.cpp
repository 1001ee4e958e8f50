// States of earlier requests used by later ones.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "engine/fake_model.h"

namespace tte::engine::testing {
namespace {

std::shared_ptr<const models::Prompt> text(const std::string& words) {
  return make_prompt({words});
}

// The vector of a prompt and how much of it was taken from the cache; checks the vector.
std::int64_t reused(Bench& bench, const std::shared_ptr<const models::Prompt>& prompt,
                    Output output = Output::kRow) {
  const auto result = bench.encode(prompt, output).get();
  const at::Tensor all = bench.model->reference(*prompt);
  if (output == Output::kRow) {
    EXPECT_TRUE(at::equal(result.hidden, all[-1])) << "reuse changed the result";
  } else if (output == Output::kAllRows) {
    EXPECT_TRUE(at::equal(result.hidden, all)) << "reuse changed the result";
  }
  return result.reused_tokens;
}

TEST(PrefixReuse, TakesTheLongestCommonBeginning) {
  Bench bench;
  EXPECT_EQ(reused(bench, text("instruction: one")), 0);
  EXPECT_EQ(reused(bench, text("instruction: two")), 13);
  EXPECT_EQ(reused(bench, text("instruction: two more")), 16);
  EXPECT_EQ(reused(bench, text("instruction: two")), 15) << "one token is left to run";
  EXPECT_EQ(bench.engine->stats().reused_tokens, 13 + 16 + 15);
  EXPECT_EQ(bench.engine->stats().prefill_tokens, 16 + 3 + 5 + 1);
}

TEST(PrefixReuse, NotWhereAllRowsAreWanted) {
  Bench bench;
  reused(bench, text("instruction: one"));
  EXPECT_EQ(reused(bench, text("instruction: one"), Output::kAllRows), 0);
  EXPECT_EQ(reused(bench, text("instruction: one"), Output::kMean), 0);
  auto request = encode_request(text("instruction: one"), Output::kRow);
  request.row = 4;
  const auto result = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(result.reused_tokens, 4) << "the pooled row itself is run";
  EXPECT_TRUE(at::equal(result.hidden, bench.model->reference(*text("instruction: one"))[4]));
}

TEST(PrefixReuse, ImagesAreWhatTheyShow) {
  Bench bench;
  const auto prompt = [](std::uint64_t seed, const std::string& end) {
    return make_prompt({std::string("see "), make_visual(seed, 4, 4), end});
  };
  EXPECT_EQ(reused(bench, prompt(1, " a")), 0);
  EXPECT_EQ(reused(bench, prompt(2, " a")), 4) << "another image behind the same ids";
  EXPECT_EQ(reused(bench, prompt(1, " b")), 9);
  EXPECT_EQ(bench.engine->stats().vision_encoded, 2) << "images behind the reused beginning are not encoded";
}

TEST(PrefixReuse, CutInsideAnImage) {
  Bench bench;
  const auto full = make_prompt({std::string("see "), make_visual(1, 4, 4), std::string("!")});
  // The image's last two tokens are read at other positions.
  auto other = *full;
  other.positions[6][1] += 1;
  EXPECT_EQ(reused(bench, full), 0);
  EXPECT_EQ(reused(bench, std::make_shared<models::Prompt>(other)), 6);
}

TEST(PrefixReuse, AnEmbeddingContinuesFromTheTrace) {
  Bench bench(scripted(9, bytes_of("because")));
  const auto prompt = text("question?");
  auto request = generate_request(prompt, 20);
  request.pin_state = true;
  const auto trace = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(trace.text, "because");
  ASSERT_NE(trace.pin, nullptr);
  // Prompt and trace; the end token was never read by the model.
  EXPECT_EQ(reused(bench, text("question?because, therefore")), 16);
}

TEST(PrefixReuse, StateOnlyRequestsPrepareLaterOnes) {
  Bench bench;
  auto request = encode_request(text("the question"));
  request.output = Output::kNothing;
  request.pin_state = true;
  const auto prepared = bench.engine->submit(std::move(request)).get();
  EXPECT_FALSE(prepared.hidden.defined());
  ASSERT_NE(prepared.pin, nullptr);
  EXPECT_EQ(reused(bench, text("the question and a trace")), 12);
  // Prepared a second time there is nothing to run.
  const auto steps = bench.engine->stats().steps;
  request = encode_request(text("the question"));
  request.output = Output::kNothing;
  request.pin_state = true;
  const auto again = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(again.reused_tokens, 12);
  EXPECT_NE(again.pin, nullptr);
  EXPECT_EQ(bench.engine->stats().steps, steps);
}

TEST(PrefixReuse, StatesThatCannotBeCutAreUsedWhole) {
  FakeModel::Options options;
  options.slot = 10;
  Bench bench(options);
  EXPECT_EQ(reused(bench, text("abcdef")), 0);
  EXPECT_EQ(reused(bench, text("abcxyz")), 0);
  EXPECT_EQ(reused(bench, text("abcdefghi")), 6);
  EXPECT_EQ(reused(bench, text("abcdef")), 0) << "its own state ends one token too late";
}

TEST(PrefixReuse, StatesThatCannotBeCutAreKeptAtBoundaries) {
  const auto request = [](const std::string& question) {
    auto prompt = *make_prompt({std::string("look: "), make_visual(1, 4, 4), question});
    prompt.boundaries = {6, 10};
    return std::make_shared<const models::Prompt>(std::move(prompt));
  };
  for (const std::int64_t slot : {0, 10}) {
    FakeModel::Options options;
    options.slot = slot;
    Bench bench(options);
    const auto first = bench.encode(request("what is it?")).get();
    const std::size_t steps = bench.model->steps().size();
    EXPECT_EQ(steps, slot == 0 ? 1 : 3) << "a chunk ends at each boundary where it must";
    const auto second = bench.encode(request("how many are there?")).get();
    EXPECT_EQ(second.reused_tokens, 10);
    EXPECT_EQ(bench.model->steps().size(), steps + 1);
    EXPECT_TRUE(at::equal(second.hidden, bench.model->reference(*request("how many are there?"))[28]));
    EXPECT_EQ(reused(bench, make_prompt({std::string("look: a"), make_visual(2, 2, 2)})), 6);
  }
}

TEST(PrefixReuse, SnapshotsAreLeftOutWhereThereIsNoRoom) {
  FakeModel::Options options;
  options.slot = 10;
  options.capacity = 50;  // Not for the first 20 tokens twice.
  Bench bench(options);
  auto prompt = *text_prompt(30, 1);
  prompt.boundaries = {20};
  EXPECT_EQ(bench.encode(std::make_shared<const models::Prompt>(prompt)).get().hidden.numel(), kHidden);
  bench.engine.reset();
  EXPECT_EQ(bench.model->used(), 0);
}

TEST(PrefixReuse, PinsSurviveTheOthers) {
  FakeModel::Options options;
  options.capacity = 60;
  Bench bench(options);
  auto request = encode_request(text("a pinned beginning"));
  request.pin_state = true;
  auto pin = bench.engine->submit(std::move(request)).get().pin;
  for (std::uint64_t i = 0; i < 10; ++i) bench.encode(text_prompt(20, i)).get();
  EXPECT_EQ(reused(bench, text("a pinned beginning, continued")), 18);
  pin.reset();
  for (std::uint64_t i = 20; i < 30; ++i) bench.encode(text_prompt(40, i)).get();
  EXPECT_EQ(reused(bench, text("a pinned beginning, again")), 0);
}

TEST(PrefixReuse, KeptStatesGiveBackWhatTheyDidNotUse) {
  Bench bench(scripted(9, bytes_of("no")));
  bench.generate(text("question?"), 500).get();
  EXPECT_EQ(bench.model->used(), 9 + 2);
  bench.engine.reset();
  EXPECT_EQ(bench.model->used(), 0);
}

}  // namespace
}  // namespace tte::engine::testing
