// How sequences share steps and memory.
#include "engine/scheduler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "engine/fake_model.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

using ::testing::HasSubstr;
using Lengths = std::vector<std::int64_t>;

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
  auto request = generate_request(mixed_prompt(i), 3 + 5 * (i % 4));
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
  auto request = encode_request(mixed_prompt(i), i % 3 == 1 ? Output::kAllRows : Output::kRow);
  if (i % 3 == 2) request.row = 2;
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

// Prompts of a model in which tokens see what follows them: never cut, never shared, alone where they are larger than a
// step, and none that is small waits for ever.
TEST(Scheduler, WholePromptsAreReadInOneStepEach) {
  FakeModel::Options whole;
  whole.whole = true;
  for (const std::int64_t slot : {0, 10}) {
    whole.slot = slot;
    for (const auto& options : {limits(2048, 256), limits(16, 8), limits(5, 3), limits(1, 1)}) {
      Bench bench(whole, options);
      auto hold = Hold::on(*bench.executor);
      std::vector<std::future<EncodeResult>> vectors;
      for (int i = 0; i < 12; ++i) {
        auto request = mixed_encode(i);
        request.pin_state = i % 4 == 0;
        vectors.push_back(bench.engine->submit(std::move(request)));
      }
      hold->let_go();
      for (int i = 0; i < 12; ++i) {
        const at::Tensor all = bench.model->reference(*mixed_prompt(i));
        const at::Tensor expected = i % 3 == 1 ? all : all[i % 3 == 2 ? 2 : all.size(0) - 1];
        const EncodeResult result = vectors[static_cast<std::size_t>(i)].get();
        EXPECT_TRUE(at::equal(result.hidden, expected)) << "vector " << i;
        EXPECT_EQ(result.reused_tokens, 0);
        EXPECT_EQ(result.pin, nullptr);
      }
      for (const auto& step : bench.model->steps())
        EXPECT_TRUE(step.total() <= options.max_step_tokens || step.tokens.size() == 1) << step.total();
      EXPECT_EQ(bench.model->used(), 0);  // No state is kept for others.
    }
  }
}

TEST(Scheduler, AWholePromptWaitsUntilItsVisualsAreEncoded) {
  FakeModel::Options whole;
  whole.whole = true;
  EngineOptions options = limits(2048, 8);
  options.max_step_patches = 8;
  Bench bench(whole, options);
  std::vector<PromptPart> parts{std::string("look ")};
  for (std::uint64_t i = 0; i < 3; ++i) parts.emplace_back(make_visual(i, 4, 6));
  const auto prompt = make_prompt(parts);
  const auto result = bench.encode(prompt, Output::kAllRows).get();
  EXPECT_TRUE(at::equal(result.hidden, bench.model->reference(*prompt)));
  EXPECT_EQ(bench.model->vision_calls().size(), 3U);
}

TEST(Scheduler, AModelOfWholePromptsWritesNothing) {
  FakeModel::Options whole;
  whole.whole = true;
  Bench bench(whole);
  EXPECT_THAT(error_of<ModelError>([&] { bench.generate(text_prompt(4, 1), 2).get(); }),
              HasSubstr("writes nothing"));
}

TEST(Scheduler, DecodesFirstThenFillsTheBudgetWithChunks) {
  FakeModel::Options model;
  Bench bench(model, limits(10, 8));
  auto hold = Hold::on(*bench.executor);
  auto request = generate_request(text_prompt(4, 1), 6);
  request.options.ignore_eos = true;
  request.caller = &model;  // The others are of another caller: all three take turns.
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

// Names of requests in the order in which they end.
struct Order {
  template <typename Request>
  Request watched(Request request, std::string name) {
    request.on_done = [this, name = std::move(name)] { names.push_back(name); };
    return request;
  }
  std::string text() const { return fmt::format("{}", fmt::join(names, " ")); }
  std::vector<std::string> names;
};

TEST(Scheduler, WhatFindsNoRoomIsOvertakenABoundedNumberOfTimes) {
  FakeModel::Options model;
  model.capacity = 60;
  Bench bench(model, limits(100, 4));
  auto hold = Hold::on(*bench.executor);
  Order order;
  std::vector<std::future<GenerateResult>> futures;
  // The first takes 30 for a long time, the second needs 50, and the others fit beside the first.
  futures.push_back(bench.engine->submit(order.watched(trace_request(10, 20, 0), "first")));
  futures.push_back(bench.engine->submit(order.watched(trace_request(48, 2, 1), "large")));
  for (std::uint64_t i = 2; i < 32; ++i)
    futures.push_back(bench.engine->submit(order.watched(trace_request(4, 2, i), "small")));
  hold->let_go();
  for (auto& future : futures) EXPECT_FALSE(future.get().ids.empty());
  bench.engine.reset();
  const auto large = std::find(order.names.begin(), order.names.end(), "large");
  EXPECT_EQ(std::count(order.names.begin(), large, "small"), 8) << order.text();
  EXPECT_EQ(std::count(large, order.names.end(), "small"), 22);
  EXPECT_LE(bench.model->peak_used(), 60);
}

TEST(Scheduler, CallersTakeTurns) {
  Bench bench({}, limits(100, 1));
  auto hold = Hold::on(*bench.executor);
  Order order;
  const auto submit = [&](const char* caller, std::uint64_t seed) {
    auto request = order.watched(trace_request(5, 2, seed), caller);
    request.caller = caller;
    return bench.engine->submit(std::move(request));
  };
  static const char a[] = "a", b[] = "b", c[] = "c";
  std::vector<std::future<GenerateResult>> futures;
  std::uint64_t seed = 0;
  for (const char* caller : {a, a, a, a, b, b, b, c}) futures.push_back(submit(caller, ++seed));
  hold->let_go();
  for (auto& future : futures) future.get();
  bench.engine.reset();
  EXPECT_EQ(order.text(), "a b c a b a b a");
}

TEST(Scheduler, VectorsComeBeforeTracesOfTheSameCaller) {
  Bench bench({}, limits(100, 1));
  auto hold = Hold::on(*bench.executor);
  Order order;
  auto first = bench.engine->submit(order.watched(trace_request(5, 2, 1), "trace"));
  auto second = bench.engine->submit(order.watched(trace_request(5, 2, 2), "trace"));
  auto vector = bench.engine->submit(order.watched(encode_request(text_prompt(9, 3)), "vector"));
  hold->let_go();
  first.get();
  second.get();
  vector.get();
  bench.engine.reset();
  EXPECT_EQ(order.text(), "vector trace trace");
}

TEST(Scheduler, AVectorWaitsForNoTrace) {
  for (const int places : {2, 3, 4, 16}) {
    std::vector<std::string> alone;
    Bench bench({}, limits(100, places));
    auto hold = Hold::on(*bench.executor);
    std::vector<std::future<GenerateResult>> traces;
    std::int64_t submitted = 0, arrived = 0;
    std::vector<std::future<EncodeResult>> vectors;
    for (std::uint64_t i = 0; i < 40; ++i) {
      auto request = trace_request(5, 50, i);
      request.caller = &traces;
      if (i == 0) {
        request.on_token = [&, n = 0](std::int64_t, const std::string&) mutable {
          if (++n != 20) return OnToken::kContinue;
          submitted = bench.engine->stats().steps;
          auto encode = encode_request(text_prompt(30, 99));
          encode.on_done = [&] { arrived = bench.engine->stats().steps; };
          encode.caller = &vectors;
          vectors.push_back(bench.engine->submit(std::move(encode)));
          return OnToken::kContinue;
        };
      }
      traces.push_back(bench.engine->submit(std::move(request)));
    }
    hold->let_go();
    for (std::size_t i = 0; i < traces.size(); ++i) {
      Bench other;
      EXPECT_EQ(traces[i].get().ids, other.engine->submit(trace_request(5, 50, i)).get().ids) << i;
    }
    vectors.at(0).get();
    EXPECT_EQ(arrived - submitted, 1) << "steps, where " << places << " traces take all places";
    for (const auto& step : bench.model->steps())
      EXPECT_LE(step.tokens.size(), static_cast<std::size_t>(places));
    // The one that stepped aside for it lost one step, and so did those that had to wait for it.
    EXPECT_LE(bench.engine->stats().steps, 50 * ((40 + places - 1) / places) + 1);
  }
}

TEST(Scheduler, AFloodOfVectorsLeavesTracesTheirPlaces) {
  Bench bench({}, limits(20, 4));
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<GenerateResult>> traces;
  std::int64_t traces_end = 0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    auto request = trace_request(5, 30, i);
    request.caller = &traces;
    request.on_done = [&] { traces_end = bench.engine->stats().steps; };
    traces.push_back(bench.engine->submit(std::move(request)));
  }
  std::vector<std::future<EncodeResult>> vectors;
  for (std::uint64_t i = 0; i < 400; ++i)
    vectors.push_back(bench.engine->submit(encode_request(text_prompt(8, 100 + i))));
  hold->let_go();
  for (auto& future : traces) EXPECT_EQ(future.get().ids.size(), 30U);
  for (auto& future : vectors) EXPECT_EQ(future.get().hidden.numel(), kHidden);
  bench.engine.reset();
  EXPECT_LE(traces_end, 2 * 30 + 4) << "half of the places at least are theirs";
}

TEST(Scheduler, ItemsGoThroughATightPoolInTheStepsThatTheirTracesTake) {
  constexpr int kItems = 128, kPlaces = 16, kPrompt = 12, kTrace = 25;
  FakeModel::Options model;
  model.capacity = kPlaces * (kPrompt + kTrace + 8);
  Bench bench(model, limits(512, kPlaces));
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<GenerateResult>> traces(kItems);
  std::vector<std::future<EncodeResult>> vectors(kItems);
  std::atomic<int> ended = 0;
  std::promise<void> all;
  for (int i = 0; i < kItems; ++i) {
    const auto at = static_cast<std::size_t>(i);
    auto request = trace_request(kPrompt, kTrace, at);
    request.pin_state = true;
    // The vector continues from the trace.
    request.on_done = [&, at] {
      auto trace = traces[at].get();
      auto prompt = *text_prompt(kPrompt, at);
      for (const std::int64_t id : trace.ids) {
        prompt.ids.push_back(id);
        prompt.kinds.push_back(base::Modality::kText);
        prompt.positions.push_back({prompt.next_position, prompt.next_position, prompt.next_position});
        ++prompt.next_position;
      }
      auto encode = encode_request(std::make_shared<models::Prompt>(prompt));
      encode.continues = std::move(trace.pin);
      encode.on_done = [&] {
        if (++ended == kItems) all.set_value();
      };
      vectors[at] = bench.engine->submit(std::move(encode));
    };
    traces[at] = bench.engine->submit(std::move(request));
  }
  hold->let_go();
  all.get_future().wait();
  const auto stats = bench.engine->stats();
  EXPECT_LE(stats.prefill_tokens, kItems * (kPrompt + 1)) << "nothing is read twice";
  EXPECT_LE(stats.steps, kItems / kPlaces * kTrace + kItems / kPlaces + 2);
  for (auto& vector : vectors) EXPECT_EQ(vector.get().reused_tokens, kPrompt + kTrace - 1);
}

TEST(Scheduler, RoomIsTakenForTokensThatAreWritten) {
  // 32 traces that end after 8 tokens, whatever they might have become.
  std::vector<std::int64_t> steps;
  for (const int most : {64, 512, 1900}) {
    FakeModel::Options model = scripted(100, {1, 2, 3, 4, 5, 6, 7});
    model.capacity = 8192;
    Bench bench(model, limits(4096, 256));
    auto hold = Hold::on(*bench.executor);
    std::vector<std::future<GenerateResult>> futures;
    for (std::uint64_t i = 0; i < 32; ++i)
      futures.push_back(bench.engine->submit(generate_request(text_prompt(100, i), most)));
    hold->let_go();
    for (auto& future : futures) EXPECT_EQ(future.get().ids.size(), 8U);
    steps.push_back(bench.engine->stats().steps);
  }
  EXPECT_EQ(steps, (Lengths{8, 8, 8}));
}

TEST(Scheduler, TracesThatPauseForOthersGoOnAsIfNothingHadBeen) {
  constexpr int kItems = 12;
  const auto request = [](int i) {
    auto out = mixed_generate(i);
    out.options.max_new_tokens = 70 + 9 * (i % 4);
    return out;
  };
  std::vector<std::string> alone;
  std::int64_t prompts = 0;
  for (int i = 0; i < kItems; ++i) {
    Bench bench;
    alone.push_back(outcome(bench.engine->submit(request(i)).get()));
    prompts += mixed_prompt(i)->size();
  }
  for (const std::int64_t slot : {0, 12}) {
    for (const std::int64_t capacity : {240, 300, 500, 900}) {
      FakeModel::Options model;
      model.capacity = capacity;
      model.slot = slot;
      Bench bench(model, limits(64, 8));
      auto hold = Hold::on(*bench.executor);
      std::vector<std::future<GenerateResult>> traces;
      for (int i = 0; i < kItems; ++i) traces.push_back(bench.engine->submit(request(i)));
      hold->let_go();
      for (std::size_t i = 0; i < kItems; ++i)
        EXPECT_EQ(outcome(traces[i].get()), alone[i]) << i << ", room for " << capacity;
      bench.engine.reset();
      EXPECT_LE(bench.model->peak_used(), capacity);
      EXPECT_EQ(bench.model->used(), 0);
    }
  }
}

TEST(Scheduler, ThePausedGoOnBeforeOthersBegin) {
  FakeModel::Options model;
  model.capacity = 200;
  Bench bench(model, limits(100, 8));
  auto hold = Hold::on(*bench.executor);
  Order order;
  std::vector<std::future<GenerateResult>> futures;
  for (std::uint64_t i = 0; i < 5; ++i)
    futures.push_back(bench.engine->submit(order.watched(trace_request(20, 120, i), fmt::format("{}", i))));
  hold->let_go();
  for (auto& future : futures) EXPECT_EQ(future.get().ids.size(), 120U);
  bench.engine.reset();
  EXPECT_EQ(order.text(), "0 1 2 3 4");
}

TEST(Scheduler, WhatCannotGrowAnyMoreFailsByItself) {
  // A pool that gives less than it says, once a sequence runs.
  class Tight : public FakeModel {
   public:
    using FakeModel::FakeModel;
    std::int64_t state_capacity() const override { return 1000; }
  };
  FakeModel::Options options;
  options.capacity = 100;
  Bench bench;
  Engine engine(std::make_shared<Tight>(options), bench.tokenizer, bench.executor, {});
  EXPECT_THAT(error_of<InputError>([&] { engine.submit(trace_request(20, 200, 7)).get(); }),
              HasSubstr("it needs room for 101 tokens"));
  EXPECT_EQ(engine.submit(trace_request(20, 50, 8)).get().ids.size(), 50U);
}

TEST(Scheduler, NothingIsReadPastThePooledRow) {
  const auto encode = [](bool pin) {
    Bench bench;
    auto request = encode_request(text_prompt(40, 1), Output::kRow);
    request.row = 12;
    request.pin_state = pin;
    const auto result = bench.engine->submit(std::move(request)).get();
    EXPECT_TRUE(at::equal(result.hidden, bench.model->reference(*text_prompt(40, 1))[12]));
    return bench.engine->stats().prefill_tokens;
  };
  EXPECT_EQ(encode(false), 13);
  EXPECT_EQ(encode(true), 40) << "the state is for others, who go on from the end";
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
  const auto message = error_of<InputError>([&] { engine.submit(encode_request(text_prompt(30, 1))).get(); });
  EXPECT_THAT(message, HasSubstr("it needs room for 30 tokens"));
  EXPECT_THAT(message, HasSubstr("state_bytes"));
  EXPECT_NO_THROW(engine.submit(encode_request(text_prompt(10, 1))).get());
}

TEST(Scheduler, ErrorsAreOfTteAndKeepTheirType) {
  const auto plain = [](auto error) { return plain_error(std::make_exception_ptr(error)); };
  EXPECT_EQ(error_of<ModelError>([&] { std::rethrow_exception(plain(ModelError("bad."))); }), "bad.");
  EXPECT_EQ(error_of<InputError>([&] { std::rethrow_exception(plain(InputError("bad."))); }), "bad.");
  EXPECT_EQ(error_of<Error>([&] { std::rethrow_exception(plain(std::logic_error("bad."))); }), "bad.");
}

}  // namespace
}  // namespace tte::engine::testing
