// How sequences share steps and memory.
#include "engine/scheduler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_model.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

using ::testing::HasSubstr;
using Lengths = std::vector<std::int64_t>;

EngineOptions limits(int max_step_tokens, int max_running) {
  EngineOptions options;
  options.max_step_tokens = max_step_tokens;
  options.max_running = max_running;
  return options;
}

std::shared_ptr<const models::Prompt> mixed_prompt(int i) {
  if (i % 3 == 0) return text_prompt(3 + 11 * i, static_cast<std::uint64_t>(i));
  return make_prompt({std::string("look "), make_visual(static_cast<std::uint64_t>(i % 4), 4, 6),
                      std::string(" then "), make_visual(static_cast<std::uint64_t>(i), 2, 2 * (1 + i % 5)),
                      std::string("what?")});
}

// What request i of a mixed list gets, in one string.
std::string outcome(const GenerateResult& result) {
  return fmt::format("{}", fmt::join(result.ids, ","));
}
std::string outcome(const EncodeResult& result) {
  const at::Tensor flat = result.hidden.flatten();
  return fmt::format("{}", fmt::join(std::vector<float>(flat.const_data_ptr<float>(),
                                                        flat.const_data_ptr<float>() + flat.numel()),
                                     ","));
}

GenerateRequest mixed_generate(int i) {
  auto request = generate_request(mixed_prompt(i), 3 + 5 * (i % 4), fmt::format("item {}", i));
  request.options.ignore_eos = true;
  if (i % 2 == 0) {
    request.options.temperature = 2.0;
    request.options.top_k = 50;
    request.options.seed = static_cast<std::uint64_t>(i);
  }
  if (i % 5 == 0) request.options.repetition_penalty = 1.2;
  return request;
}

EncodeRequest mixed_encode(int i) {
  static constexpr prompt::Pooling kPoolings[] = {prompt::Pooling::kLast, prompt::Pooling::kNone,
                                                  prompt::Pooling::kToken};
  auto request = encode_request(mixed_prompt(i), kPoolings[i % 3]);
  request.pooling_row = 2;
  return request;
}

TEST(Scheduler, MixedBatchesGiveWhatEachRequestGetsAlone) {
  constexpr int kItems = 12;
  std::vector<std::string> alone;
  for (int i = 0; i < kItems; ++i) {
    Bench bench;
    alone.push_back(outcome(bench.engine->submit(mixed_generate(i)).get()));
    alone.push_back(outcome(bench.engine->submit(mixed_encode(i)).get()));
  }
  for (const auto& options : {limits(2048, 256), limits(16, 8), limits(5, 3), limits(1, 1)}) {
    Bench bench({}, options);
    auto hold = Hold::on(*bench.executor);
    std::vector<std::future<GenerateResult>> traces;
    std::vector<std::future<EncodeResult>> vectors;
    for (int i = 0; i < kItems; ++i) {
      traces.push_back(bench.engine->submit(mixed_generate(i)));
      vectors.push_back(bench.engine->submit(mixed_encode(i)));
    }
    hold->let_go();
    for (std::size_t i = 0; i < kItems; ++i) {
      EXPECT_EQ(outcome(traces[i].get()), alone[2 * i])
          << "trace " << i << ", budget " << options.max_step_tokens;
      EXPECT_EQ(outcome(vectors[i].get()), alone[2 * i + 1]) << "vector " << i;
    }
    for (const auto& step : bench.model->steps()) {
      EXPECT_LE(step.total(), options.max_step_tokens);
      EXPECT_LE(step.tokens.size(), static_cast<std::size_t>(options.max_running));
    }
    EXPECT_LE(bench.engine->stats().peak_running, options.max_running);
  }
}

TEST(Scheduler, DecodesFirstThenFillsTheBudgetWithChunks) {
  FakeModel::Options model;
  Bench bench(model, limits(10, 8));
  auto hold = Hold::on(*bench.executor);
  auto request = generate_request(text_prompt(4, 1), 6);
  request.options.ignore_eos = true;
  auto a = bench.engine->submit(std::move(request));
  auto b = bench.encode(text_prompt(22, 2));
  auto c = bench.encode(text_prompt(3, 3));
  hold->let_go();
  a.get();
  b.get();
  c.get();
  const auto steps = bench.model->steps();
  ASSERT_EQ(steps.size(), 6U);
  EXPECT_EQ(steps[0].tokens, (Lengths{4, 6}));
  EXPECT_EQ(steps[1].tokens, (Lengths{1, 9}));
  EXPECT_EQ(steps[2].tokens, (Lengths{1, 7, 2}));
  EXPECT_EQ(steps[3].tokens, (Lengths{1, 1}));
  EXPECT_EQ(steps[4].tokens, (Lengths{1}));
  const auto stats = bench.engine->stats();
  EXPECT_EQ(stats.steps, 6);
  EXPECT_EQ(stats.prefill_tokens, 29);
  EXPECT_EQ(stats.decode_tokens, 5);
  EXPECT_EQ(stats.peak_running, 3);
}

TEST(Scheduler, AnEndedSequenceIsReplacedInTheNextStep) {
  Bench bench({}, limits(100, 2));
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<GenerateResult>> futures;
  std::vector<int> order;
  for (const int tokens : {2, 6, 3, 2}) {
    auto request = generate_request(text_prompt(10 + tokens, futures.size()), tokens);
    request.options.ignore_eos = true;
    request.on_done = [&order, index = static_cast<int>(futures.size())] { order.push_back(index); };
    futures.push_back(bench.engine->submit(std::move(request)));
  }
  hold->let_go();
  for (auto& future : futures) future.get();
  std::vector<Lengths> tokens;
  for (const auto& step : bench.model->steps()) tokens.push_back(step.tokens);
  EXPECT_EQ(tokens, (std::vector<Lengths>{{12, 16}, {1, 1}, {1, 13}, {1, 1}, {1, 1}, {1, 12}, {1}}));
  bench.engine.reset();  // The last on_done may still be running when its future is ready.
  EXPECT_EQ(order, (std::vector<int>{0, 2, 1, 3}));
}

TEST(Scheduler, WaitsForMemoryInTheOrderOfArrival) {
  FakeModel::Options model;
  model.capacity = 30;
  Bench bench(model, limits(100, 8));
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<GenerateResult>> futures;
  // Room for 12 + 8, then 21 (waits for the first), then 6, which would fit but may not overtake.
  for (const auto& [prompt, tokens] : {std::pair{8, 4}, {5, 3}, {14, 7}, {4, 2}}) {
    auto request = generate_request(text_prompt(prompt, futures.size()), tokens);
    request.options.ignore_eos = true;
    futures.push_back(bench.engine->submit(std::move(request)));
  }
  hold->let_go();
  for (auto& future : futures) EXPECT_FALSE(future.get().ids.empty());
  std::vector<Lengths> tokens;
  for (const auto& step : bench.model->steps()) tokens.push_back(step.tokens);
  EXPECT_EQ(tokens[0], (Lengths{8, 5}));
  EXPECT_EQ(tokens[3], (Lengths{1})) << "the second has ended, the third still finds no room for 21 of 30";
  EXPECT_EQ(tokens[4], (Lengths{14, 4}));
  EXPECT_LE(bench.model->peak_used(), 30);
}

TEST(Scheduler, ManyRequestsThroughLittleMemoryAllEnd) {
  FakeModel::Options model;
  model.capacity = 60;
  Bench bench(model, limits(16, 4));
  std::vector<std::future<GenerateResult>> traces;
  std::vector<std::future<EncodeResult>> vectors;
  std::vector<std::shared_ptr<PrefixPin>> pins;
  for (int i = 0; i < 60; ++i) {
    auto request = generate_request(text_prompt(1 + i % 30, static_cast<std::uint64_t>(i % 7)), 1 + i % 20);
    request.pin_state = i % 3 == 0;
    traces.push_back(bench.engine->submit(std::move(request)));
    auto encode = encode_request(text_prompt(1 + i % 50, static_cast<std::uint64_t>(i % 7)));
    encode.pin_state = i % 4 == 0;
    vectors.push_back(bench.engine->submit(std::move(encode)));
  }
  for (std::size_t i = 0; i < traces.size(); ++i) {
    pins.push_back(traces[i].get().pin);
    auto result = vectors[i].get();
    const auto prompt = text_prompt(1 + static_cast<int>(i) % 50, i % 7);
    EXPECT_TRUE(at::equal(result.hidden, bench.model->reference(*prompt)[prompt->size() - 1])) << i;
    pins.push_back(result.pin);
  }
  bench.engine.reset();
  EXPECT_EQ(bench.model->used(), 0);
}

TEST(Scheduler, PinsYieldWhenNothingElseGivesRoom) {
  FakeModel::Options model;
  model.capacity = 50;
  Bench bench(model);
  auto request = encode_request(text_prompt(30, 1));
  request.pin_state = true;
  const auto pinned = bench.engine->submit(std::move(request)).get();
  ASSERT_NE(pinned.pin, nullptr);
  // The owner of the pin waits for this one, which needs the pin's memory.
  EXPECT_EQ(bench.encode(text_prompt(40, 2)).get().hidden.numel(), kHidden);
  // The pinned beginning is gone, the result is the same.
  auto longer = *text_prompt(30, 1);
  const auto again = bench.encode(std::make_shared<models::Prompt>(longer)).get();
  EXPECT_EQ(again.reused_tokens, 0);
  EXPECT_TRUE(at::equal(again.hidden, pinned.hidden));
}

TEST(Scheduler, RoundingOfAPoolThatCanNeverFitIsAnError) {
  // A pool whose blocks leave less room than state_capacity() says.
  class Tight : public FakeModel {
   public:
    using FakeModel::FakeModel;
    std::unique_ptr<models::SequenceState> start(std::int64_t reserve) const override {
      return reserve > 20 ? nullptr : FakeModel::start(reserve);
    }
  };
  Bench bench;
  Engine engine(std::make_shared<Tight>(), bench.tokenizer, bench.executor, {});
  const auto message =
      error_of<InputError>([&] { engine.submit(encode_request(text_prompt(30, 1), {}, "item 9")).get(); });
  EXPECT_THAT(message, HasSubstr("item 9: it needs room for 30 tokens"));
  EXPECT_THAT(message, HasSubstr("state_bytes"));
  EXPECT_NO_THROW(engine.submit(encode_request(text_prompt(10, 1))).get());
}

TEST(Scheduler, NamesErrorsAndKeepsTheirType) {
  const auto rename = [](auto error) { return name_error(std::make_exception_ptr(error), "item 4"); };
  EXPECT_EQ(error_of<ModelError>([&] { std::rethrow_exception(rename(ModelError("bad."))); }),
            "item 4: bad.");
  EXPECT_EQ(error_of<InputError>([&] { std::rethrow_exception(rename(InputError("bad."))); }),
            "item 4: bad.");
  EXPECT_EQ(error_of<Error>([&] { std::rethrow_exception(rename(std::logic_error("bad."))); }),
            "item 4: bad.");
}

}  // namespace
}  // namespace tte::engine::testing
