#include "tte/think_then_embed.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <thread>

#include "api/fixture.h"
#include "expect_error.h"
#include "temp_dir.h"

namespace tte {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tte::testing::distance;
using tte::testing::embedder;
using tte::testing::float32;
using tte::testing::kReasoner;
using tte::testing::kSame;
using tte::testing::message_of;
using tte::testing::questions;
using tte::testing::reasoner;
using tte::testing::tokens;

const ThinkThenEmbed& pair() {
  static const ThinkThenEmbed pair(reasoner(), embedder());
  return pair;
}

ThinkThenEmbedOptions options_of(int count = 10) {
  ThinkThenEmbedOptions options;
  options.generate = tokens(count);
  return options;
}

// Which items have a trace.
std::vector<std::size_t> thought(const ThinkThenEmbedResult& result) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < result.traces.size(); ++i) {
    if (result.traces[i]) out.push_back(i);
  }
  return out;
}

void expect_same(const Embeddings& a, const Embeddings& b) {
  ASSERT_EQ(a.rows, b.rows);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    EXPECT_LT(distance(a.row(static_cast<std::size_t>(i)), b.row(static_cast<std::size_t>(i))), kSame)
        << "row " << i;
  }
}

// What the two calls, one after the other, give.
Embeddings separately(const Reasoner& thinker, const Embedder& reader, const std::vector<Input>& inputs,
                      int count) {
  ThinkOptions think;
  think.generate = tokens(count);
  std::vector<std::optional<Trace>> traces;
  for (Trace& trace : thinker.think(inputs, think)) traces.emplace_back(std::move(trace));
  return reader.embed(inputs, traces);
}

TEST(ThinkThenEmbed, IsThinkThenEmbed) {
  const auto inputs = questions();
  const auto result = pair().run(inputs, options_of());
  expect_same(result.embeddings, separately(reasoner(), embedder(), inputs, 10));
  ThinkOptions think;
  think.generate = tokens(10);
  const auto traces = reasoner().think(inputs, think);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_TRUE(result.traces[i]);
    EXPECT_EQ(result.traces[i]->token_ids, traces[i].token_ids);
    EXPECT_EQ(result.traces[i]->text, traces[i].text);
    EXPECT_GT(result.timings[i].embed, 0);
  }
  EXPECT_EQ(result.stats.thought, static_cast<std::int64_t>(inputs.size()));
  EXPECT_GT(result.stats.seconds, 0);
}

TEST(ThinkThenEmbed, TheEmbedderReadsThePromptWhileTheReasonerWrites) {
  const Processor processor = Processor::load(tte::testing::kEmbedder);
  const Backend backend = Backend::make(tte::testing::small_backend());
  const ThinkThenEmbed both(Reasoner::load(kReasoner, float32(), backend),
                            Embedder::load(tte::testing::kEmbedder, float32(), backend));
  // A trace of one token has ended before anything can be read beside it: the order is the same.
  for (const int count : {10, 1}) {
    for (std::size_t i = 0; i < questions().size(); ++i) {
      // A beginning of its own, so that nothing is reused but what was read for this item.
      Input input = questions()[i];
      input.instruction = fmt::format("{} {}", count, i);
      const auto result = both.run({input}, options_of(count));
      const auto opened = static_cast<std::int64_t>(processor.process(input).input_ids.size());
      const std::int64_t own = result.stats.reused_tokens - result.traces[0]->reused_tokens;
      EXPECT_EQ(own, opened) << "question " << i << ", trace of " << count;
    }
  }
}

TEST(ThinkThenEmbed, ATraceIsHandedOutThoughTheEmbedderCannotTakeThePrompt) {
  std::string words;
  for (int i = 0; i < 20'000; ++i) words += " a";
  const tte::testing::TempDir folder;
  const auto recipe = folder.write("r.json", R"({"prompt": {"user": ["{content}", ")" + words + R"("]}})");
  const Embedder reader =
      Embedder::load(tte::testing::kEmbedder, float32(recipe.string()), tte::testing::backend());
  ThinkThenEmbedOptions options = options_of(4);
  options.on_error = OnError::kSkip;
  std::set<std::size_t> traces;
  options.on_trace = [&](std::size_t i, const Trace&) { traces.insert(i); };
  const auto result = ThinkThenEmbed(reasoner(), reader).run({questions()[1]}, options);
  ASSERT_EQ(result.embeddings.errors.size(), 1U);
  EXPECT_THAT(result.embeddings.errors[0].message, HasSubstr("item 0"));
  EXPECT_EQ(traces.size(), 1U) << "finished work is not lost";
}

TEST(ThinkThenEmbed, OneSetOfWeightsContinuesFromTheReasonersState) {
  const Backend backend = Backend::make(tte::testing::small_backend());
  const Reasoner thinker = Reasoner::load(kReasoner, float32(), backend);
  const Embedder reader = Embedder::load(kReasoner, float32(), backend);
  ASSERT_EQ(backend.stats().engines, 1);
  const std::vector<Input> inputs = {questions()[0]};
  const auto result = ThinkThenEmbed(thinker, reader).run(inputs, options_of());
  // All of the prompt, at least, need not be read again.
  EXPECT_GE(result.stats.reused_tokens, result.traces[0]->prompt_tokens);
  EXPECT_EQ(backend.stats().vision_encoded, 1);
  // On another backend, without anything to reuse.
  const Backend other = Backend::make(tte::testing::small_backend());
  expect_same(result.embeddings, separately(Reasoner::load(kReasoner, float32(), other),
                                            Embedder::load(kReasoner, float32(), other), inputs, 10));
}

TEST(ThinkThenEmbed, ThinkingIsAChoice) {
  const auto inputs = questions();
  ThinkThenEmbedOptions options = options_of();
  options.think = ThinkMode::kNever;
  const auto never = pair().run(inputs, options);
  EXPECT_TRUE(thought(never).empty());
  EXPECT_EQ(never.stats.generated_tokens, 0);
  expect_same(never.embeddings, embedder().embed(inputs));

  options.think = ThinkMode::kQueries;
  options.tasks.resize(inputs.size());
  options.tasks[1].side = options.tasks[3].side = Side::kTarget;
  EXPECT_THAT(thought(pair().run(inputs, options)), ElementsAre(0, 2, 4));

  options.think = ThinkMode::kRecipe;
  for (Task& task : options.tasks) task.family = "image_qa";  // Its targets are not reasoned about.
  EXPECT_THAT(thought(pair().run(inputs, options)), ElementsAre(0, 2, 4));

  options.tasks.clear();
  options.think_each = {ThinkMode::kNever, ThinkMode::kAlways, ThinkMode::kNever, ThinkMode::kNever,
                        ThinkMode::kAlways};
  const auto some = pair().run(inputs, options);
  EXPECT_THAT(thought(some), ElementsAre(1, 4));
  EXPECT_LT(distance(some.embeddings.row(0), never.embeddings.row(0)), kSame);
}

TEST(ThinkThenEmbed, TracesByHandAreTaken) {
  const auto inputs = questions();
  ThinkThenEmbedOptions options = options_of();
  options.traces.resize(inputs.size());
  options.traces[0] = Trace::from_text("<think>by hand</think> red");
  options.traces[3] = Trace::from_text("");
  options.think = ThinkMode::kNever;
  const auto result = pair().run(inputs, options);
  EXPECT_THAT(thought(result), ElementsAre(0, 3));
  EXPECT_EQ(result.traces[0]->text, "<think>by hand</think> red");
  EXPECT_EQ(result.stats.thought, 0);
  expect_same(result.embeddings, embedder().embed(inputs, options.traces));
}

TEST(ThinkThenEmbed, VectorsWithoutTracesComeOfTheSameRun) {
  auto inputs = questions();
  const Embeddings plain = embedder().embed(inputs);
  for (const ThinkMode mode : {ThinkMode::kAlways, ThinkMode::kNever, ThinkMode::kAuto}) {
    ThinkThenEmbedOptions options = options_of();
    options.think = mode;
    if (mode == ThinkMode::kAuto)
      options.auto_think.decide = [](std::size_t i, std::span<const float>) { return i == 1; };
    options.traces.resize(inputs.size());
    options.traces[0] = Trace::from_text("<think>by hand</think> red");
    const auto expected = pair().run(inputs, options);
    options.without_trace = true;
    std::set<std::size_t> vectors;
    options.on_vector = [&](std::size_t i, std::span<const float>) { EXPECT_TRUE(vectors.insert(i).second); };
    const auto result = pair().run(inputs, options);
    expect_same(*result.without_trace, plain);
    expect_same(result.embeddings, expected.embeddings);
    EXPECT_EQ(thought(result), thought(expected));
    EXPECT_EQ(vectors.size(), inputs.size());
  }
  EXPECT_FALSE(pair().run(inputs, options_of()).without_trace);
  // What fails has neither.
  inputs[1] = {};
  ThinkThenEmbedOptions options = options_of();
  options.without_trace = true;
  options.on_error = OnError::kSkip;
  const auto result = pair().run(inputs, options);
  ASSERT_EQ(result.without_trace->errors.size(), 1U);
  EXPECT_TRUE(std::isnan(result.without_trace->row(1)[0]));
  EXPECT_FALSE(std::isnan(result.without_trace->row(2)[0]));
}

TEST(ThinkThenEmbed, AutoAsksTheCallback) {
  const auto inputs = questions();
  const Embeddings plain = embedder().embed(inputs);
  ThinkThenEmbedOptions options = options_of();
  options.think = ThinkMode::kAuto;
  std::set<std::size_t> asked;
  options.auto_think.decide = [&](std::size_t i, std::span<const float> vector) {
    asked.insert(i);
    EXPECT_LT(distance(vector, plain.row(i)), kSame);
    return i == 2;
  };
  const auto result = pair().run(inputs, options);
  EXPECT_EQ(asked.size(), inputs.size());
  EXPECT_THAT(thought(result), ElementsAre(2));
  EXPECT_LT(distance(result.embeddings.row(0), plain.row(0)), kSame);
  EXPECT_LT(distance(result.embeddings.row(2), separately(reasoner(), embedder(), {inputs[2]}, 10).row(0)),
            kSame);
}

TEST(ThinkThenEmbed, AutoThinksWhereTheMarginIsSmall) {
  const auto inputs = questions();
  ThinkThenEmbedOptions options = options_of();
  options.think = ThinkMode::kAuto;
  auto targets = std::make_shared<Embeddings>(embedder().embed(inputs));
  options.auto_think.targets = targets;
  options.auto_think.margin = 0;  // Every item is its own best target.
  EXPECT_TRUE(thought(pair().run(inputs, options)).empty());
  options.auto_think.margin = 3;  // More than cosines can differ by.
  EXPECT_EQ(thought(pair().run(inputs, options)).size(), inputs.size());
  options.auto_think.decide = [](std::size_t, std::span<const float>) { return true; };
  EXPECT_THAT(message_of<InputError>([&] { (void)pair().run(inputs, options); }), HasSubstr("exactly one"));
  options.auto_think = {};
  EXPECT_THAT(message_of<InputError>([&] { (void)pair().run(inputs, options); }), HasSubstr("exactly one"));
  auto lies = std::make_shared<Embeddings>(*targets);
  lies->rows += 1;
  options.auto_think.targets = lies;
  EXPECT_THAT(message_of<InputError>([&] { (void)pair().run(inputs, options); }),
              HasSubstr("AutoThink.targets have"));
  options.auto_think.targets = std::make_shared<Embeddings>();
  EXPECT_THAT(message_of<InputError>([&] { (void)pair().run(inputs, options); }),
              HasSubstr("AutoThink.targets"));
}

TEST(ThinkThenEmbed, HandsOutWhatIsReady) {
  const auto inputs = questions();
  ThinkThenEmbedOptions options = options_of(4);
  std::set<std::size_t> traces, vectors;
  options.on_trace = [&](std::size_t i, const Trace&) { traces.insert(i); };
  options.on_vector = [&](std::size_t i, std::span<const float> vector) {
    EXPECT_TRUE(traces.count(i)) << "a vector follows its trace";
    EXPECT_EQ(vector.size(), static_cast<std::size_t>(embedder().dim()));
    vectors.insert(i);
  };
  std::size_t progress = 0;
  options.progress = [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, inputs.size());
    progress = done;
  };
  (void)pair().run(inputs, options);
  EXPECT_EQ(vectors.size(), inputs.size());
  EXPECT_EQ(progress, inputs.size());
}

TEST(ThinkThenEmbed, SkipsBadItems) {
  auto inputs = questions();
  inputs[0] = Input();
  ThinkThenEmbedOptions options = options_of(4);
  EXPECT_THAT(message_of<InputError>([&] { (void)pair().run(inputs, options); }), HasSubstr("item 0"));
  options.on_error = OnError::kSkip;
  const auto result = pair().run(inputs, options);
  ASSERT_EQ(result.embeddings.errors.size(), 1U);
  EXPECT_FALSE(result.traces[0]);
  EXPECT_TRUE(result.traces[1]);
}

TEST(ThinkThenEmbed, CancelStopsIt) {
  ThinkThenEmbedOptions options = options_of(1900);
  options.generate.ignore_eos = true;
  options.on_token = tte::testing::cancelled_meanwhile(options.cancel);
  EXPECT_THROW((void)pair().run(questions(), options), CancelledError);
  EXPECT_EQ(pair().run(questions(), options_of(2)).embeddings.rows, 5);
}

TEST(ThinkThenEmbed, ManyThreadsGetWhatOneGets) {
  const auto inputs = questions();
  const auto alone = pair().run(inputs, options_of(5));
  std::vector<ThinkThenEmbedResult> results(3);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] { result = pair().run(inputs, options_of(5)); });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) expect_same(result.embeddings, alone.embeddings);
}

TEST(ThinkThenEmbed, ARecipeMayPutTheTraceIntoTheUsersTurn) {
  const tte::testing::TempDir folder;
  const auto recipe = folder.write("r.json", R"({"prompt": {"user": ["{content}", " {trace}", " ."]}})");
  const Embedder reader =
      Embedder::load(tte::testing::kEmbedder, float32(recipe.string()), tte::testing::backend());
  const auto inputs = questions();
  expect_same(ThinkThenEmbed(reasoner(), reader).run(inputs, options_of(6)).embeddings,
              separately(reasoner(), reader, inputs, 6));
}

TEST(ThinkThenEmbed, ATaskThatOneRecipeHasIsThatOnes) {
  const tte::testing::TempDir folder;
  const auto plain = folder.write("plain.json", R"({})");
  const auto tasks = folder.write("tasks.json", R"({"tasks": {"colours": {"query": "say the colour"}}})");
  const auto load = [](const auto& recipe) {
    return Embedder::load(tte::testing::kEmbedder, float32(recipe.string()), tte::testing::backend());
  };
  const auto inputs = questions();
  ThinkThenEmbedOptions options = options_of(3);
  options.task.family = "colours";
  const Reasoner asked = Reasoner::load(kReasoner, float32(tasks.string()), tte::testing::backend());
  EmbedCallOptions with_task;
  with_task.task = options.task;
  // Only the reasoner's recipe has it: the embedder takes its default prompt.
  const auto result = ThinkThenEmbed(asked, load(plain)).run(inputs, options);
  expect_same(result.embeddings, load(plain).embed(inputs, result.traces));
  // Only the embedder's has it.
  const Reasoner unasked = Reasoner::load(kReasoner, float32(plain.string()), tte::testing::backend());
  const auto other = ThinkThenEmbed(unasked, load(tasks)).run(inputs, options);
  expect_same(other.embeddings, load(tasks).embed(inputs, other.traces, with_task));
  // Neither has it, whoever decides about thinking; the message is of the one that has tasks.
  for (const ThinkMode think : {ThinkMode::kAlways, ThinkMode::kNever, ThinkMode::kRecipe}) {
    options.think = think;
    EXPECT_THAT(
        message_of<InputError>([&] { (void)ThinkThenEmbed(unasked, load(plain)).run(inputs, options); }),
        AllOf(HasSubstr("item 0: The task \"colours\" is not one of"), HasSubstr("which has none")));
    ThinkThenEmbedOptions unknown = options;
    unknown.task.family = "sounds";
    EXPECT_THAT(
        message_of<InputError>([&] { (void)ThinkThenEmbed(asked, load(plain)).run(inputs, unknown); }),
        AllOf(HasSubstr("item 0: The task \"sounds\" is not one of"), HasSubstr("which has colours")));
  }
}

TEST(ThinkThenEmbed, BothMustBeOnOneBackend) {
  const Backend other = Backend::make(tte::testing::small_backend());
  const Embedder elsewhere = Embedder::load(tte::testing::kEmbedder, float32(), other);
  EXPECT_THAT(message_of<InputError>([&] { ThinkThenEmbed(reasoner(), elsewhere); }),
              AllOf(HasSubstr("two backends"), HasSubstr("embedder")));
}

}  // namespace
}  // namespace tte
