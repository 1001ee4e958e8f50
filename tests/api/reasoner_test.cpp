#include "tte/reasoner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <map>
#include <stdexcept>
#include <thread>
#include <utility>

#include "api/fixture.h"
#include "engine/executor.h"
#include "expect_error.h"

namespace tte {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using tte::testing::embedder;
using tte::testing::kReasoner;
using tte::testing::message_of;
using tte::testing::questions;
using tte::testing::reasoner;
using tte::testing::tokens;

ThinkOptions with(GenerateOptions generate) {
  ThinkOptions options;
  options.generate = std::move(generate);
  return options;
}

TEST(Reasoner, BatchesAreTheSameAsOneByOne) {
  const auto inputs = questions();
  const ThinkOptions options = with(tokens(12));
  const std::vector<Trace> batch = reasoner().think(inputs, options);
  ASSERT_EQ(batch.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    SCOPED_TRACE(i);
    const Trace alone = reasoner().think(inputs[i], options);
    EXPECT_EQ(alone.token_ids, batch[i].token_ids);
    EXPECT_EQ(alone.text, batch[i].text);
    EXPECT_EQ(batch[i].vocabulary, reasoner().tokenizer().vocabulary());
    EXPECT_GT(batch[i].prompt_tokens, 0);
    EXPECT_LE(batch[i].token_ids.size(), 12U);
    EXPECT_TRUE(batch[i].finish == FinishReason::kStop || batch[i].finish == FinishReason::kLength);
    EXPECT_EQ(reasoner().tokenizer().decode(batch[i].token_ids), batch[i].text);
  }
}

// The probability of the greedy trace's first tokens, by asking for each token in turn.
TEST(Reasoner, ScoresLabelsAsSequences) {
  const auto inputs = questions();
  const std::vector<std::string> labels = {" red", " red circle", " red circle at", "no", " A1"};
  const LabelScores batch = reasoner().score(inputs, labels);
  ASSERT_EQ(batch.data.size(), inputs.size() * labels.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::span<const float> row(batch.data.data() + i * labels.size(), labels.size());
    const LabelScores alone = reasoner().score({inputs[i]}, labels);
    EXPECT_LT(tte::testing::distance(row, alone.data), 1e-4F) << i;
    // What stands before a label may be a trace: log P(a b) = log P(a) + log P(b | a).
    const auto rest = reasoner().score({inputs[i]}, {" circle", " circle at"}, {Trace::from_text(" red")});
    EXPECT_NEAR(row[1], row[0] + rest.data[0], 1e-4) << i;
    EXPECT_NEAR(row[2], row[0] + rest.data[1], 1e-4) << i;
    for (const float value : row) EXPECT_LT(value, 0);
  }
  // What would be written is the likeliest.
  const Trace trace = reasoner().think(inputs[0], with(tokens(1)));
  std::vector<std::string> first = labels;
  first.push_back(reasoner().tokenizer().decode(trace.token_ids, false));
  const LabelScores greedy = reasoner().score({inputs[0]}, first);
  EXPECT_EQ(std::max_element(greedy.data.begin(), greedy.data.end()) - greedy.data.begin(), 5);
}

TEST(Reasoner, RefusesLabelsThatAreNone) {
  const std::vector<Input> one = {Input("a")};
  EXPECT_THAT(message_of<InputError>([&] { (void)reasoner().score(one, {}); }), HasSubstr("no labels"));
  EXPECT_THAT(message_of<InputError>([&] { (void)reasoner().score(one, {"a", ""}); }), HasSubstr("Label 1"));
  EXPECT_THAT(message_of<InputError>([&] {
                (void)reasoner().score(one, {"a", std::string(100'000, 'x')});
              }),
              AllOf(HasSubstr("Label 1"), HasSubstr("over the limit of 1024")));
  EXPECT_THAT(message_of<InputError>([&] {
                (void)reasoner().score(one, {"a", "b", "a"});
              }),
              AllOf(HasSubstr("Labels 0 and 2"), HasSubstr("same tokens")));
  ScoreOptions options;
  options.on_error = OnError::kSkip;
  const LabelScores scores = reasoner().score({Input(), Input("a")}, {" red"}, {}, options);
  EXPECT_TRUE(std::isnan(scores.data[0]));
  EXPECT_LT(scores.data[1], 0);
  ASSERT_EQ(scores.errors.size(), 1U);
  EXPECT_THAT(scores.errors[0].message, HasSubstr("item 0"));
}

TEST(Reasoner, OptionsAreOnePerItem) {
  const auto inputs = questions();
  ThinkOptions options;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    GenerateOptions each = tokens(static_cast<int>(i) + 2);
    each.ignore_eos = true;
    options.generate_each.push_back(each);
  }
  const auto traces = reasoner().think(inputs, options);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(traces[i].token_ids.size(), i + 2);
    EXPECT_EQ(traces[i].finish, FinishReason::kLength);
  }
}

TEST(Reasoner, SeedsDecideWhatIsSampled) {
  GenerateOptions sampling = tokens(16);
  sampling.temperature = 3.0;
  sampling.ignore_eos = true;
  ThinkOptions options = with(sampling);
  const std::vector<Input> same(4, Input("list the things in the picture"));
  options.seeds = {1, 2, 1, 3};
  const auto first = reasoner().think(same, options);
  EXPECT_EQ(first[0].token_ids, first[2].token_ids) << "one seed, one text, wherever it stands";
  EXPECT_NE(first[0].token_ids, first[1].token_ids);
  EXPECT_NE(first[1].token_ids, first[3].token_ids);
  options.seeds = {3, 1, 1, 2};
  const auto second = reasoner().think(same, options);
  EXPECT_EQ(second[0].token_ids, first[3].token_ids);
  EXPECT_EQ(second[3].token_ids, first[1].token_ids);
}

TEST(Reasoner, CallbacksSeeEveryToken) {
  const auto inputs = questions();
  ThinkOptions options = with(tokens(10));
  std::map<std::size_t, std::string> text;
  std::map<std::size_t, std::vector<std::int64_t>> ids;
  options.on_token = [&](std::size_t item, std::string_view piece, std::int64_t id) {
    text[item] += piece;
    ids[item].push_back(id);
    return OnToken::kContinue;
  };
  std::size_t results = 0;
  options.on_result = [&](std::size_t item, const Trace& trace) {
    ++results;
    EXPECT_EQ(ids[item], trace.token_ids);
  };
  const auto traces = reasoner().think(inputs, options);
  EXPECT_EQ(results, inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) EXPECT_EQ(text[i], traces[i].text) << i;
}

TEST(Reasoner, ACallbackStopsItsItemOnly) {
  const std::vector<Input> inputs = {"what is left of the red circle ?", "count blue"};
  GenerateOptions generate = tokens(8);
  generate.ignore_eos = true;
  ThinkOptions options = with(generate);
  int seen = 0;
  options.on_token = [&](std::size_t item, std::string_view, std::int64_t) {
    return item == 0 && ++seen == 3 ? OnToken::kStop : OnToken::kContinue;
  };
  const auto traces = reasoner().think(inputs, options);
  EXPECT_EQ(traces[0].token_ids.size(), 3U);
  EXPECT_EQ(traces[0].finish, FinishReason::kCallback);
  EXPECT_EQ(traces[1].token_ids.size(), 8U);
}

// The engine hears of a stop while it writes on; what comes out does not depend on when.
TEST(Reasoner, AStoppedTraceEndsWithTheTokenOfTheStop) {
  const Input question("what is left of the red circle ?");
  GenerateOptions generate = tokens(12);
  generate.ignore_eos = true;
  const std::vector<std::int64_t> whole = reasoner().think(question, with(generate)).token_ids;
  for (std::size_t last = 1; last < whole.size(); ++last) {
    for (const bool slow : {false, true}) {
      ThinkOptions options = with(generate);
      std::size_t seen = 0;
      std::string text;
      options.on_token = [&](std::size_t, std::string_view piece, std::int64_t) {
        text += piece;
        if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return ++seen == last ? OnToken::kStop : OnToken::kContinue;
      };
      const Trace trace = reasoner().think(question, options);
      EXPECT_EQ(trace.token_ids,
                (std::vector<std::int64_t>(whole.begin(), whole.begin() + static_cast<long>(last))));
      EXPECT_EQ(trace.finish, FinishReason::kCallback);
      EXPECT_TRUE(trace.text.starts_with(text)) << "held back: half characters";
      EXPECT_EQ(seen, last) << "no token is handed over after the stop";
    }
  }
}

TEST(Reasoner, AStopAtTheLastTokenDoesNotHideTheReason) {
  GenerateOptions generate = tokens(4);
  generate.ignore_eos = true;
  ThinkOptions options = with(generate);
  options.on_token = [n = 0](std::size_t, std::string_view, std::int64_t) mutable {
    return ++n == 4 ? OnToken::kStop : OnToken::kContinue;
  };
  EXPECT_EQ(reasoner().think(Input("count blue"), options).finish, FinishReason::kLength);
}

TEST(Reasoner, CallbacksMayCallModels) {
  ThinkOptions options = with(tokens(3));
  const auto caller = std::this_thread::get_id();
  std::size_t vectors = 0;
  options.on_token = [&](std::size_t, std::string_view, std::int64_t) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    vectors += static_cast<std::size_t>(embedder().embed({Input("a")}).rows);
    EXPECT_EQ(reasoner().think(Input("b"), with(tokens(1))).token_ids.size(), 1U);
    return OnToken::kContinue;
  };
  options.on_result = [&](std::size_t, const Trace&) {
    vectors += static_cast<std::size_t>(embedder().embed({Input("a")}).rows);
  };
  const auto traces = reasoner().think({Input("count blue"), Input("count red")}, options);
  EXPECT_EQ(vectors, traces[0].token_ids.size() + traces[1].token_ids.size() + 2);
}

TEST(Reasoner, NobodyWaitsForAModelOnTheEnginesThread) {
  class Waits : public engine::Stepper {
   public:
    bool step() override {
      if (std::exchange(done_, true)) return false;
      message.set_value(message_of<Error>([] { (void)reasoner().think(Input("a"), with(tokens(1))); }));
      return false;
    }
    std::promise<std::string> message;

   private:
    bool done_ = false;
  };
  (void)reasoner();
  const auto waits = std::make_shared<Waits>();
  engine::Executor executor(1, 1024);
  executor.add(waits);
  EXPECT_THAT(waits->message.get_future().get(), HasSubstr("may not wait for a model"));
}

TEST(Reasoner, WhatACallbackThrowsComesOut) {
  ThinkOptions options = with(tokens(8));
  options.on_token = [](std::size_t, std::string_view, std::int64_t) -> OnToken {
    throw std::logic_error("mine");
  };
  EXPECT_THROW((void)reasoner().think(questions(), options), std::logic_error);
  EXPECT_EQ(reasoner().think(questions(), with(tokens(2))).size(), questions().size())
      << "and the engine goes on";
}

TEST(Reasoner, CancelStopsALongCall) {
  GenerateOptions generate = tokens(1900);
  generate.ignore_eos = true;
  ThinkOptions options = with(generate);
  const std::vector<Input> inputs(6, Input("list the things in the picture"));
  options.on_token = tte::testing::cancelled_meanwhile(options.cancel);
  EXPECT_THAT(message_of<CancelledError>([&] { (void)reasoner().think(inputs, options); }),
              HasSubstr("cancelled"));
  EXPECT_EQ(reasoner().think(inputs, with(tokens(2))).size(), inputs.size()) << "and the engine goes on";
}

TEST(Reasoner, PollStopsALongCall) {
  GenerateOptions generate = tokens(1900);
  generate.ignore_eos = true;
  ThinkOptions options = with(generate);
  int polls = 0;
  options.poll = [&] {
    if (++polls == 3) throw std::runtime_error("interrupted");
  };
  EXPECT_THROW((void)reasoner().think(Input("list the things in the picture"), options), std::runtime_error);
}

TEST(Reasoner, ABadItemStopsTheCallByDefault) {
  auto inputs = questions();
  inputs[2] = Input();
  inputs[2].name = "row 17";
  EXPECT_THAT(message_of<InputError>([&] { (void)reasoner().think(inputs, with(tokens(2))); }),
              AllOf(HasSubstr("row 17"), HasSubstr("empty")));
  Image missing;
  missing.source = std::filesystem::path("/no/such/file.jpg");
  EXPECT_THAT(message_of<InputError>([&] {
                (void)reasoner().think({Input("a"), Input(missing)}, with(tokens(2)));
              }),
              AllOf(HasSubstr("item 1"), HasSubstr("file.jpg")));
}

TEST(Reasoner, ABadItemIsSkippedWhenAsked) {
  auto inputs = questions();
  inputs[1] = Input(std::string(1 << 16, 'a'));  // More than the model has positions.
  inputs[2] = Input();
  ThinkOptions options = with(tokens(4));
  options.on_error = OnError::kSkip;
  std::size_t progress = 0;
  options.progress = [&](std::size_t done, std::size_t) { progress = done; };
  const auto traces = reasoner().think(inputs, options);
  EXPECT_EQ(progress, inputs.size());
  for (const std::size_t bad : {1U, 2U}) {
    EXPECT_EQ(traces[bad].finish, FinishReason::kError);
    EXPECT_THAT(traces[bad].error, HasSubstr("item " + std::to_string(bad)));
  }
  const auto good = reasoner().think(questions(), with(tokens(4)));
  for (const std::size_t i : {0U, 3U, 4U}) {
    EXPECT_EQ(traces[i].token_ids, good[i].token_ids);
    EXPECT_EQ(traces[i].error, "");
  }
}

TEST(Reasoner, ListsOfOptionsMustMatchTheInputs) {
  ThinkOptions options;
  options.seeds = {1, 2};
  EXPECT_THAT(message_of<InputError>([&] { (void)reasoner().think({Input("a")}, options); }),
              AllOf(HasSubstr("seeds has 2 entries"), HasSubstr("1 inputs")));
  options = {};
  options.generate.temperature = -1;
  EXPECT_THAT(message_of<InputError>([&] { (void)reasoner().think({Input("a")}, options); }),
              HasSubstr("temperature"));
  options = {};
  options.task.family = "image_qq";
  EXPECT_THAT(message_of<InputError>([&] { (void)reasoner().think({Input("a")}, options); }),
              HasSubstr("image_qq"));
}

TEST(Reasoner, ManyThreadsGetWhatOneGets) {
  const auto inputs = questions();
  const auto alone = reasoner().think(inputs, with(tokens(6)));
  std::vector<std::vector<Trace>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] { result = reasoner().think(inputs, with(tokens(6))); });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) {
    ASSERT_EQ(result.size(), alone.size());
    for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(result[i].token_ids, alone[i].token_ids);
  }
}

TEST(Reasoner, OutlivesItsBackendHandle) {
  const Reasoner reasoner = [] {
    const Backend backend = Backend::make(tte::testing::small_backend());
    return Reasoner::load(kReasoner, {}, backend);
  }();
  EXPECT_LE(reasoner.think("a", with(tokens(3))).token_ids.size(), 3U);
}

TEST(Trace, FromText) {
  const Trace trace = Trace::from_text("<think>a</think> b");
  EXPECT_EQ(trace.thinking, "a");
  EXPECT_EQ(trace.conclusion, "b");
  EXPECT_EQ(trace.finish, FinishReason::kGiven);
}

}  // namespace
}  // namespace tte
