#include "api/replicas.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <optional>
#include <set>
#include <thread>

#include "api/devices.h"
#include "api/fixture.h"
#include "api/model_with_recipe.h"
#include "expect_error.h"

namespace tte {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using tte::testing::float32;
using tte::testing::kEmbedder;
using tte::testing::kReasoner;
using tte::testing::message_of;
using tte::testing::pattern;

constexpr const char* kHead = TTE_SOURCE_DIR "/models/nano/head";

DeviceInfo gpu(int index, std::int64_t memory = 80) {
  return {fmt::format("cuda:{}", index), "A GPU", memory, {"float32"}};
}

const std::vector<DeviceInfo>& machine() {
  static const std::vector<DeviceInfo> devices = {gpu(0), gpu(1), gpu(2), {"cpu", "A CPU", 64, {"float32"}}};
  return devices;
}

TEST(Devices, SeveralGpusAreChosenByName) {
  const auto chosen = [](const std::string& names) {
    return api::names_of(api::choose_devices(names, machine()));
  };
  EXPECT_EQ(chosen("auto"), "cuda:0");
  EXPECT_EQ(chosen("cpu"), "cpu");
  EXPECT_EQ(chosen("cuda"), "cuda:0");
  EXPECT_EQ(chosen("cuda:2"), "cuda:2");
  EXPECT_EQ(chosen("cuda:2,cuda:0"), "cuda:2,cuda:0");
  EXPECT_EQ(chosen("cuda:all"), "cuda:0,cuda:1,cuda:2");
  EXPECT_THAT(message_of<DeviceError>([&] { (void)chosen("cuda:0,cuda:3"); }),
              AllOf(HasSubstr("\"cuda:3\" is not available"), HasSubstr("cuda:2 (A GPU), cpu (A CPU)")));
  EXPECT_THROW((void)api::choose_devices("cuda:all", {machine().back()}), DeviceError);
}

TEST(Devices, StatesTakeAQuarterOfTheSmallest) {
  EXPECT_EQ(api::default_state_bytes({gpu(0, 80), gpu(1, 40)}), 10);
  EXPECT_EQ(api::default_state_bytes({gpu(0, 80), gpu(1, 0)}), 20) << "0 is unknown";
}

BackendOptions complete(std::optional<int> replicas, int threads) {
  BackendOptions options;
  options.replicas = replicas;
  options.threads = threads;
  options.state_bytes = 101;
  options.vision_cache_bytes = 50;
  return options;
}

TEST(Shares, ReplicasOfACpuDivideWhatItHas) {
  const std::vector<DeviceInfo> cpu = {machine().back()};
  const auto shares = api::share_out(cpu, complete(3, 8));
  ASSERT_EQ(shares.size(), 3U);
  EXPECT_EQ(shares[0].threads + shares[1].threads + shares[2].threads, 8);
  for (const api::Share& share : shares) {
    EXPECT_GE(share.threads, 2);
    EXPECT_EQ(share.state_bytes, 33);
    EXPECT_EQ(share.vision_cache_bytes, 16);
    EXPECT_EQ(share.sharers, 3);
  }
  EXPECT_EQ(api::share_out(cpu, complete({}, 8)).size(), 1U);
  EXPECT_EQ(api::share_out(cpu, complete(8, 8)).size(), 8U);
  EXPECT_THAT(message_of<InputError>([&] { (void)api::share_out(cpu, complete(9, 8)); }),
              HasSubstr("replicas is 9, but threads is 8"));
}

TEST(Shares, AGpuHasOneReplicaAndAllOfItsMemory) {
  const std::vector<DeviceInfo> gpus = {gpu(1), gpu(0)};
  for (const std::optional<int> replicas : {std::optional<int>(), std::optional<int>(2)}) {
    const auto shares = api::share_out(gpus, complete(replicas, 1));
    ASSERT_EQ(shares.size(), 2U);
    EXPECT_EQ(api::names_of(shares[0].devices), "cuda:1");
    EXPECT_EQ(api::names_of(shares[1].devices), "cuda:0");
    for (const api::Share& share : shares) {
      EXPECT_EQ(share.threads, 1);
      EXPECT_EQ(share.state_bytes, 101);
      EXPECT_EQ(share.vision_cache_bytes, 50);
      EXPECT_EQ(share.sharers, 1);
    }
  }
  BackendOptions options = complete(4, 8);
  options.device = "cuda:1,cuda:0";
  EXPECT_THAT(message_of<InputError>([&] { (void)api::share_out(gpus, options); }),
              AllOf(HasSubstr("replicas is 4"), HasSubstr("\"cuda:1,cuda:0\"")));
}

TEST(Shares, AReplicaMayTakeSeveralDevices) {
  const auto split = [](std::optional<int> replicas) {
    BackendOptions options = complete(replicas, 4);
    options.tensor_parallel = 2;
    options.device = "the GPUs";
    return options;
  };
  const std::vector<DeviceInfo> gpus = {gpu(3), gpu(0), gpu(1), gpu(2)};
  for (const std::optional<int> replicas : {std::optional<int>(), std::optional<int>(2)}) {
    const auto shares = api::share_out(gpus, split(replicas));
    ASSERT_EQ(shares.size(), 2U);
    EXPECT_EQ(api::names_of(shares[0].devices), "cuda:3,cuda:0");
    EXPECT_EQ(api::names_of(shares[1].devices), "cuda:1,cuda:2");
    EXPECT_EQ(shares[1].state_bytes, 101) << "on each of its GPUs";
    EXPECT_EQ(shares[1].sharers, 1);
  }
  EXPECT_THAT(message_of<InputError>([&] { (void)api::share_out(gpus, split(4)); }),
              AllOf(HasSubstr("replicas is 4"), HasSubstr("a group of 2 GPUs")));
  EXPECT_THAT(
      message_of<InputError>([&] {
        (void)api::share_out({gpu(0), gpu(1), gpu(2)}, split({}));
      }),
      AllOf(HasSubstr("tensor_parallel is 2"), HasSubstr("\"the GPUs\""), HasSubstr("a multiple of 2")));
  const auto shares = api::share_out({machine().back()}, split(2));
  ASSERT_EQ(shares.size(), 2U);
  EXPECT_EQ(api::names_of(shares[1].devices), "cpu,cpu");
  EXPECT_EQ(shares[1].threads, 2);
}

// A text of `tokens` tokens from `first` on, behind an image of 100 where `image` is its number.
models::Prompt prompt(std::int64_t tokens, std::int64_t first, std::optional<std::uint64_t> image = {}) {
  models::Prompt out;
  const auto add = [&](std::int64_t id, base::Modality kind) {
    out.ids.push_back(id);
    out.kinds.push_back(kind);
  };
  if (image) {
    auto visual = std::make_shared<models::Visual>();
    visual->patches.digest = {*image, *image};
    out.visuals.push_back(std::move(visual));
    out.visual_tokens.push_back(100);
    for (int i = 0; i < 100; ++i) add(1, base::Modality::kImage);
  }
  for (std::int64_t i = 0; i < tokens; ++i) add(first + i, base::Modality::kText);
  return out;
}

TEST(Router, LeastWorkIsNextAndEqualsTakeTurns) {
  api::Router router(2);
  for (const std::size_t turn : {0U, 1U, 0U, 1U}) {
    const api::Place place(router, prompt(10, 0));
    EXPECT_EQ(place.replica(), turn) << "nothing waits";
  }
  const api::Place large(router, prompt(100, 0));
  EXPECT_EQ(large.replica(), 0U);
  {
    const api::Place first(router, prompt(60, 0)), second(router, prompt(60, 0));
    EXPECT_EQ(first.replica(), 1U);
    EXPECT_EQ(second.replica(), 1U) << "60 wait there, 100 at the other";
    const api::Place third(router, prompt(60, 0));
    EXPECT_EQ(third.replica(), 0U) << "now 120 do";
  }
  const api::Place later(router, prompt(90, 0)), last(router, prompt(1, 0));
  EXPECT_EQ(later.replica(), 1U) << "those have ended";
  EXPECT_EQ(last.replica(), 1U);
}

TEST(Router, WhatIsSharedStaysTogetherUntilItsReplicaIsFarBehind) {
  for (const bool image : {true, false}) {
    // Either an image of 100 tokens and 20 of text, or a text whose first 256 tokens are the same.
    const auto item = [&](std::uint64_t group, std::int64_t index) {
      if (image) return prompt(20, 1000 * index, group);
      models::Prompt out = prompt(256, 1'000'000 * static_cast<std::int64_t>(group));
      const models::Prompt rest = prompt(51, 1000 * index);
      out.ids.insert(out.ids.end(), rest.ids.begin(), rest.ids.end());
      out.kinds.insert(out.kinds.end(), rest.kinds.begin(), rest.kinds.end());
      return out;
    };
    api::Router router(2);
    std::list<api::Place> places;
    const auto place = [&](std::uint64_t group, std::int64_t index) {
      return places.emplace_back(router, item(group, index)).replica();
    };
    for (std::int64_t i = 0; i < 4; ++i) EXPECT_EQ(place(7, i), 0U) << i;
    for (std::int64_t i = 0; i < 4; ++i) EXPECT_EQ(place(8, i), 1U) << i;
    std::set<std::size_t> used;
    for (std::int64_t i = 4; i < 20; ++i) used.insert(place(7, i));
    EXPECT_EQ(used.size(), 2U) << "many of one group are spread all the same";
    places.clear();
    const auto both = [&](std::uint64_t group) { return place(group, 100); };
    EXPECT_EQ(both(8), 1U) << "what was read is known when nothing waits";
  }
}

// The nano pair on a backend of its own.
struct Pair {
  explicit Pair(int replicas, std::int64_t state_bytes = std::int64_t{64} << 20)
      : backend(Backend::make(options(replicas, state_bytes))),
        reasoner(Reasoner::load(kReasoner, float32(), backend)),
        embedder(Embedder::load(kEmbedder, float32(), backend)) {}

  static BackendOptions options(int replicas, std::int64_t state_bytes) {
    BackendOptions options = tte::testing::small_backend();
    options.replicas = replicas;
    options.threads = 2;
    options.state_bytes = state_bytes;
    return options;
  }

  Backend backend;
  Reasoner reasoner;
  Embedder embedder;
};

std::vector<Input> items() {
  std::vector<Input> out = tte::testing::questions();
  for (unsigned i = 0; i < 8; ++i) {
    out.emplace_back(fmt::format("what is left of the {} red circle ?", i));
    out.push_back(tte::testing::parts({pattern(56, 84, 20 + i), fmt::format("how many are there ? {}", i)}));
  }
  return out;
}

void expect_all_worked(const Backend& backend) {
  const auto replicas = backend.replica_stats();
  BackendStats sum;
  for (const BackendStats& stats : replicas) {
    EXPECT_GT(stats.steps, 0);
    EXPECT_GT(stats.prefill_tokens, 0);
    sum.engines += stats.engines;
    sum.prefill_tokens += stats.prefill_tokens;
    sum.decode_tokens += stats.decode_tokens;
  }
  const BackendStats stats = backend.stats();
  EXPECT_EQ(static_cast<std::int64_t>(replicas.size()), *backend.options().replicas);
  EXPECT_EQ(stats.engines, sum.engines);
  EXPECT_EQ(stats.prefill_tokens, sum.prefill_tokens);
  EXPECT_EQ(stats.decode_tokens, sum.decode_tokens);
}

ThinkOptions thinking(int count, double temperature = 0) {
  ThinkOptions options;
  options.generate = tte::testing::tokens(count);
  options.generate.temperature = temperature;
  if (temperature > 0) options.generate.seed = 3;
  return options;
}

ThinkThenEmbedOptions both_stages() {
  ThinkThenEmbedOptions options;
  options.generate = tte::testing::tokens(12);
  return options;
}

std::vector<std::vector<std::int64_t>> ids_of(const std::vector<Trace>& traces) {
  std::vector<std::vector<std::int64_t>> out;
  for (const Trace& trace : traces) out.push_back(trace.token_ids);
  return out;
}

TEST(Replicas, OptionsSayHowManyThereAre) {
  BackendOptions options = tte::testing::small_backend();
  EXPECT_EQ(Backend::make(options).options().replicas, 1);
  EXPECT_EQ(Pair(2).backend.options().replicas, 2);
  const Backend one = Backend::shared(options);
  options.threads = options.replicas.emplace(2);
  EXPECT_NE(Backend::shared(options).impl(), one.impl());
  options.threads = 1;
  EXPECT_THAT(message_of<InputError>([&] { (void)Backend::make(options); }),
              HasSubstr("replicas is 2, but threads is 1"));
}

TEST(Replicas, ShareTheWeightsAndDivideTheStates) {
  const Pair two(2, std::int64_t{8} << 20);
  EXPECT_EQ(two.backend.stats().engines, 4);
  const auto& replicas = two.embedder.impl()->loaded->replicas;
  ASSERT_EQ(replicas.size(), 2U);
  EXPECT_EQ(replicas[0].model->info().vision_identity, replicas[1].model->info().vision_identity)
      << "the same memory";
  EXPECT_EQ(replicas[0].model->info().fingerprint, replicas[1].model->info().fingerprint);
  for (const auto& replica : replicas) {
    EXPECT_LE(replica.model->state_capacity(), std::int64_t{4} << 20);
    EXPECT_GT(replica.model->state_capacity(), std::int64_t{3} << 20);
  }
}

TEST(Replicas, WriteTheTracesOfOne) {
  for (const double temperature : {0.0, 0.9}) {
    const Pair one(1), two(2);
    const ThinkOptions options = thinking(24, temperature);
    EXPECT_EQ(ids_of(two.reasoner.think(items(), options)), ids_of(one.reasoner.think(items(), options)));
    expect_all_worked(two.backend);
  }
}

TEST(Replicas, GiveTheVectorsOfOne) {
  const Pair one(1), two(2), tokens(2);
  EXPECT_EQ(two.embedder.embed(items()).data, one.embedder.embed(items()).data);
  expect_all_worked(two.backend);
  const TokenEmbeddings found = tokens.embedder.embed_tokens(items());
  const TokenEmbeddings expected = one.embedder.embed_tokens(items());
  EXPECT_EQ(found.half, expected.half);
  EXPECT_EQ(found.offsets, expected.offsets);
  EXPECT_EQ(found.pooled.data, expected.pooled.data);
  expect_all_worked(tokens.backend);
}

TEST(Replicas, GiveTheScoresOfOne) {
  const Pair one(1), two(2);
  const std::vector<std::string> labels = {" red", " red circle", " red circle at", "no"};
  EXPECT_EQ(two.reasoner.score(items(), labels).data, one.reasoner.score(items(), labels).data);
  expect_all_worked(two.backend);
}

TEST(Replicas, ThinkThenEmbedAsOneDoes) {
  for (const bool without_trace : {false, true}) {
    const Pair one(1), two(2);
    ThinkThenEmbedOptions options = both_stages();
    options.without_trace = without_trace;
    const auto found = ThinkThenEmbed(two.reasoner, two.embedder).run(items(), options);
    const auto expected = ThinkThenEmbed(one.reasoner, one.embedder).run(items(), options);
    EXPECT_EQ(found.embeddings.data, expected.embeddings.data);
    ASSERT_EQ(found.without_trace.has_value(), without_trace);
    if (without_trace) {
      EXPECT_EQ(found.without_trace->data, expected.without_trace->data);
    }
    for (std::size_t i = 0; i < items().size(); ++i)
      EXPECT_EQ(found.traces[i]->token_ids, expected.traces[i]->token_ids) << i;
    EXPECT_EQ(two.backend.stats().vision_encoded, one.backend.stats().vision_encoded)
        << "an image goes through a tower once, for both models: both requests of an item are on one replica";
    expect_all_worked(two.backend);
  }
}

TEST(Replicas, OneCheckpointForBothGoesOnFromItsStates) {
  const Pair two(2);
  const Embedder embedder = Embedder::load(kReasoner, float32(), two.backend);
  const auto result = ThinkThenEmbed(two.reasoner, embedder).run(items(), both_stages());
  for (std::size_t i = 0; i < items().size(); ++i) EXPECT_TRUE(result.traces[i]);
  std::int64_t prompts = 0;
  for (const auto& trace : result.traces) prompts += trace->prompt_tokens;
  EXPECT_GE(result.stats.reused_tokens, prompts) << "the state that the trace left is on the same replica";
}

TEST(Replicas, AHeadGoesOnFromTheStatesOfItsBase) {
  const Pair one(1), two(2);
  std::vector<Embedder> heads;  // Only what lives is counted.
  std::vector<Embeddings> found;
  for (const Pair* pair : {&one, &two}) {
    heads.push_back(Embedder::load(kHead, float32(), pair->backend));
    found.push_back(ThinkThenEmbed(pair->reasoner, heads.back()).run(items(), both_stages()).embeddings);
  }
  EXPECT_EQ(found[1].data, found[0].data);
  for (const BackendStats& stats : two.backend.replica_stats()) EXPECT_GT(stats.head_tokens, 0);
}

TEST(Replicas, EachHasItsDraft) {
  const Pair one(1), two(2);
  LoadOptions options = float32();
  options.draft = DraftOptions{};
  options.draft->checkpoint = kReasoner;
  options.draft->dtype = "float32";
  BackendOptions plain = two.backend.options();
  plain.prompt_lookup_tokens = 0;
  const Reasoner drafted = Reasoner::load(kReasoner, options, Backend::make(plain));
  EXPECT_EQ(ids_of(drafted.think(items(), thinking(24))), ids_of(one.reasoner.think(items(), thinking(24))));
  for (const BackendStats& stats : drafted.backend().replica_stats()) EXPECT_GT(stats.right_drafts, 0);
}

TEST(Replicas, ABadItemDisturbsNoOther) {
  const Pair one(1), two(2);
  auto inputs = items();
  inputs[1] = Input(std::string(1 << 16, 'a'));  // More than the model has positions.
  inputs[4] = Input();
  ThinkThenEmbedOptions options = both_stages();
  options.on_error = OnError::kSkip;
  const auto found = ThinkThenEmbed(two.reasoner, two.embedder).run(inputs, options);
  const auto expected = ThinkThenEmbed(one.reasoner, one.embedder).run(items(), options);
  ASSERT_EQ(found.embeddings.errors.size(), 2U);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (i == 1 || i == 4) continue;
    EXPECT_EQ(found.traces[i]->token_ids, expected.traces[i]->token_ids) << i;
    EXPECT_TRUE(std::ranges::equal(found.embeddings.row(i), expected.embeddings.row(i))) << i;
  }
}

TEST(Replicas, AnItemMustFitIntoOne) {
  const Input large(std::string(1500, 'a'));
  const std::string told = message_of<InputError>([&] { (void)Pair(2, 1 << 20).embedder.embed({large}); });
  const std::string words = "in each of 2 replicas; set the backend's state_bytes to at least ";
  ASSERT_THAT(told, HasSubstr(words));
  const std::int64_t enough = std::stoll(told.substr(told.find(words) + words.size()));
  EXPECT_EQ(Pair(2, enough).embedder.embed({large}).rows, 1) << "the remedy holds";
  EXPECT_THROW((void)Pair(2, enough - 2).embedder.embed({large}), InputError) << "and no less does";
}

TEST(Replicas, CallbacksSeeTheirTokensInOrder) {
  const Pair two(2);
  const auto inputs = items();
  std::vector<std::vector<std::int64_t>> seen(inputs.size());
  ThinkOptions options = thinking(16);
  options.on_token = [&, caller = std::this_thread::get_id()](std::size_t item, std::string_view,
                                                              std::int64_t id) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    seen[item].push_back(id);
    return item % 3 == 0 && seen[item].size() == 5 ? OnToken::kStop : OnToken::kContinue;
  };
  const auto traces = two.reasoner.think(inputs, options);
  EXPECT_EQ(seen, ids_of(traces));
  for (std::size_t i = 0; i < inputs.size(); i += 3) EXPECT_LE(traces[i].token_ids.size(), 5U);
}

TEST(Replicas, ManyThreadsGetWhatOneGets) {
  const Pair one(1);
  std::optional<Pair> two(std::in_place, 2);
  const auto inputs = items();
  const auto traces = ids_of(one.reasoner.think(inputs, thinking(12)));
  const auto vectors = one.embedder.embed(inputs).data;
  const auto whole = ThinkThenEmbed(one.reasoner, one.embedder).run(inputs, both_stages()).embeddings.data;
  std::vector<std::thread> threads;
  for (int number = 0; number < 6; ++number) {
    threads.emplace_back([&, number] {
      for (int round = 0; round < 2; ++round) {
        switch ((number + round) % 3) {
          case 0:
            EXPECT_EQ(ids_of(two->reasoner.think(inputs, thinking(12))), traces);
            break;
          case 1:
            EXPECT_EQ(two->embedder.embed(inputs).data, vectors);
            break;
          default: {
            // One that is left in the middle, and one that is not.
            ThinkOptions options = thinking(1900);
            options.generate.ignore_eos = true;
            options.on_token = tte::testing::cancelled_meanwhile(options.cancel);
            EXPECT_THROW((void)two->reasoner.think(inputs, options), CancelledError);
            EXPECT_EQ(ThinkThenEmbed(two->reasoner, two->embedder).run(inputs, both_stages()).embeddings.data,
                      whole);
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect_all_worked(two->backend);
  // What is left while both still work on it ends, too.
  ThinkOptions options = thinking(1900);
  options.generate.ignore_eos = true;
  options.on_token = tte::testing::cancelled_meanwhile(options.cancel);
  EXPECT_THROW((void)two->reasoner.think(inputs, options), CancelledError);
  two.reset();
}

}  // namespace
}  // namespace tte
