// Sequences that think in latent steps: what the model reads in them it made of its own states.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "engine/fake_model.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Prompt = std::shared_ptr<const models::Prompt>;

FakeModel::Options latent(std::int64_t slot = 0) {
  FakeModel::Options options;
  options.latent = true;
  options.slot = slot;
  return options;
}

// Texts and images of many lengths, most with latent steps.
Prompt mixed(std::uint64_t i) {
  const auto n = static_cast<std::int64_t>(i);
  Prompt prompt = text_prompt(3 + n * 7 % 40, i);
  if (i % 3 == 1) prompt = make_prompt({std::string("see "), make_visual(i, 4, 6), std::string(" what?")});
  if (i % 4 == 3) return prompt;
  const std::int64_t context = i % 5 == 0 ? -1 : (prompt->size() - 1) * (n % 3) / 2;
  return with_latent(*prompt, 1 + n % 9, context, i % 2 == 0 ? "end" : "");
}

at::Tensor encoded(Bench& bench, const Prompt& prompt, Output output = Output::kRow) {
  return bench.encode(prompt, output).get().hidden;
}

TEST(Latent, EachStepIsMadeOfTheStateBeforeItAndTheContext) {
  Bench bench(latent());
  const Prompt prompt = with_latent(*text_prompt(10, 1), 3, 6, "end");
  EXPECT_TRUE(at::equal(encoded(bench, prompt), bench.model->reference(*prompt)[-1]));
  std::vector<std::vector<std::int64_t>> tokens;
  std::vector<std::int64_t> given;
  for (const FakeModel::Step& step : bench.model->steps()) {
    tokens.push_back(step.tokens);
    given.push_back(step.given_rows);
  }
  EXPECT_THAT(tokens, ElementsAre(ElementsAre(10), ElementsAre(1), ElementsAre(1), ElementsAre(4)))
      << "what follows the last step runs with it";
  EXPECT_THAT(given, ElementsAre(0, 1, 1, 1));
  EXPECT_EQ(bench.engine->stats().prefill_tokens, 16);
}

TEST(Latent, EveryOutputIsThatOfTheReference) {
  for (const int step : {1, 3, 64}) {
    Bench bench(latent(), limits(step, 8));
    const Prompt prompt = with_latent(*text_prompt(10, 1), 5, 6, "the end");
    const at::Tensor all = bench.model->reference(*prompt);
    EXPECT_TRUE(at::equal(encoded(bench, prompt, Output::kAllRows), all)) << step;
    EXPECT_TRUE(at::allclose(encoded(bench, prompt, Output::kMean), all.mean(0), 1e-4, 1e-2)) << step;
    for (const std::int64_t row : {0, 5, 6, 9, 10, 14, 15, 21}) {
      auto request = encode_request(prompt);
      request.row = row;
      EXPECT_TRUE(at::equal(bench.engine->submit(std::move(request)).get().hidden, all[row])) << row;
    }
    // Rows before the steps, among them the context, and steps themselves.
    auto request = encode_request(prompt);
    request.row = 4;
    request.rows = 9;
    EXPECT_TRUE(at::equal(bench.engine->submit(std::move(request)).get().hidden, all.narrow(0, 4, 9)));
  }
}

TEST(Latent, NothingBehindThePooledRowIsRead) {
  Bench bench(latent());
  auto request = encode_request(with_latent(*text_prompt(10, 1), 4, 6, "end"));
  request.row = 6;
  (void)bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(bench.engine->stats().prefill_tokens, 7);
  EXPECT_EQ(bench.engine->stats().steps, 1);
}

TEST(Latent, BatchesMixSequencesWithAndWithoutSteps) {
  constexpr std::uint64_t kItems = 24;
  for (const std::int64_t slot : {0, 5}) {
    for (const auto& [tokens, running] : {std::pair(512, 256), {16, 3}, {7, 5}, {1, 1}}) {
      Bench bench(latent(slot), limits(tokens, running));
      auto hold = Hold::on(*bench.executor);
      std::vector<std::future<EncodeResult>> vectors;
      std::vector<std::future<GenerateResult>> traces;
      for (std::uint64_t i = 0; i < kItems; ++i) {
        vectors.push_back(bench.encode(mixed(i)));
        if (i % 6 == 0) traces.push_back(bench.generate(text_prompt(5, i), 9));
      }
      hold->let_go();
      for (std::uint64_t i = 0; i < kItems; ++i) {
        EXPECT_TRUE(at::equal(vectors[i].get().hidden, bench.model->reference(*mixed(i))[-1]))
            << i << " in steps of " << tokens;
      }
      for (auto& trace : traces) EXPECT_FALSE(trace.get().ids.empty());
      for (const FakeModel::Step& step : bench.model->steps()) {
        EXPECT_LE(step.total(), tokens);
        EXPECT_LE(step.tokens.size(), static_cast<std::size_t>(running));
      }
    }
  }
}

TEST(Latent, StepsOfManySequencesRunTogether) {
  Bench bench(latent());
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<EncodeResult>> vectors;
  for (std::uint64_t i = 0; i < 20; ++i)
    vectors.push_back(bench.encode(with_latent(*text_prompt(10, i), 8, 3, "e")));
  hold->let_go();
  for (auto& vector : vectors) (void)vector.get();
  EXPECT_EQ(bench.engine->stats().steps, 9);
}

TEST(Latent, OnlyWhatStandsBeforeTheContextIsReused) {
  for (const std::int64_t slot : {0, 5}) {
    Bench bench(latent(slot));
    const auto check = [&](const Prompt& prompt) {
      const auto result = bench.encode(prompt).get();
      EXPECT_TRUE(at::equal(result.hidden, bench.model->reference(*prompt)[-1]))
          << "reuse changed the result";
      return result.reused_tokens;
    };
    const Prompt base = text_prompt(12, 1);
    EXPECT_EQ(check(with_latent(*base, 4, 7, "end")), 0);
    if (slot > 0) {  // Of a state that cannot be cut there is nothing.
      EXPECT_EQ(check(with_latent(*base, 4, 7, "end")), 0);
      continue;
    }
    EXPECT_EQ(check(with_latent(*base, 4, 7, "end")), 7);
    EXPECT_EQ(check(with_latent(*base, 4, -1, "end")), 11) << "the token before the steps is read";
    EXPECT_EQ(check(with_latent(*base, 6, 3, "end")), 3);
    // Tokens whose ids stand for the steps elsewhere.
    EXPECT_EQ(check(with_latent(*base, 0, -1, "....end")), 12);
    EXPECT_EQ(check(with_latent(*base, 0, -1, "....end")), 18);
    EXPECT_EQ(check(with_latent(*base, 4, 7, "end")), 7);
  }
}

TEST(Latent, ATightPoolChangesNothing) {
  constexpr std::uint64_t kItems = 16;
  FakeModel::Options model = latent();
  model.capacity = 150;
  Bench bench(model, limits(32, 8));
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<EncodeResult>> vectors;
  std::vector<std::future<GenerateResult>> traces;
  for (std::uint64_t i = 0; i < kItems; ++i) {
    vectors.push_back(bench.encode(mixed(i)));
    traces.push_back(bench.generate(text_prompt(9, i), 60));
  }
  hold->let_go();
  for (std::uint64_t i = 0; i < kItems; ++i)
    EXPECT_TRUE(at::equal(vectors[i].get().hidden, bench.model->reference(*mixed(i))[-1])) << i;
  for (auto& trace : traces) EXPECT_FALSE(trace.get().ids.empty());
  EXPECT_LE(bench.model->peak_used(), model.capacity);
}

TEST(Latent, WhatFailsIsToldToThoseOfTheStep) {
  Bench bench(latent());
  bench.model->on_latent = [&](std::int64_t) { throw std::runtime_error("no experts"); };
  const Prompt prompt = with_latent(*text_prompt(10, 1), 4, 6, "end");
  EXPECT_THAT(error_of<Error>([&] { (void)encoded(bench, prompt); }), HasSubstr("no experts"));
  bench.model->on_latent = nullptr;
  EXPECT_TRUE(at::equal(encoded(bench, prompt), bench.model->reference(*prompt)[-1]));
  CancelToken cancel;
  bench.model->on_latent = [&](std::int64_t) { cancel.cancel(); };
  auto request = encode_request(prompt);
  request.cancel = cancel;
  auto future = bench.engine->submit(std::move(request));
  EXPECT_THROW((void)future.get(), CancelledError);
}

TEST(Latent, WhatDoesNotFitIsRefused) {
  Bench bench(latent());
  const Prompt good = with_latent(*text_prompt(10, 1), 4, 6, "end");
  const auto refused = [&](const models::LatentRows& rows) {
    auto prompt = *good;
    prompt.latent = rows;
    return error_of<InputError>([&] { (void)bench.encode(std::make_shared<models::Prompt>(prompt)); });
  };
  for (const models::LatentRows& rows : {models::LatentRows{0, 4, -1},
                                         {10, 8, 6},
                                         {10, -1, 6},
                                         {10, 4, 10},
                                         {10, 4, -2},
                                         {17, 1, 6},
                                         {10, std::numeric_limits<std::int64_t>::max(), 6}}) {
    EXPECT_THAT(refused(rows), HasSubstr("latent steps from row")) << rows.begin << " " << rows.count;
  }
  auto visual = *make_prompt({std::string("see "), make_visual(1, 4, 4), std::string("!")});
  visual.latent = {5, 2, 0};
  EXPECT_THAT(error_of<InputError>([&] { (void)bench.encode(std::make_shared<models::Prompt>(visual)); }),
              HasSubstr("not among those of a visual"));
  EXPECT_THAT(error_of<InputError>([&] { (void)bench.generate(good, 4); }), HasSubstr("encode it"));
  Bench other;
  EXPECT_THAT(error_of<InputError>([&] { (void)other.encode(good); }),
              HasSubstr("recipe that has \"latent\""));
}

}  // namespace
}  // namespace tte::engine::testing
