#include "engine/draft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "engine/fake_model.h"

namespace tte::engine::testing {
namespace {

using Ids = std::vector<std::int64_t>;

// By the last three tokens, and now and then otherwise.
std::int64_t chaotic(const Ids& ids, std::size_t otherwise) {
  std::uint64_t hash = ids.size() % otherwise == 0 ? 1 : 0;
  for (std::size_t i = ids.size() - std::min<std::size_t>(ids.size(), 3); i < ids.size(); ++i)
    hash = (hash ^ static_cast<std::uint64_t>(ids[i])) * 0x9E3779B97F4A7C15;
  return 'a' + static_cast<std::int64_t>((hash >> 40) % 20);
}
std::int64_t target_says(const Ids& ids) {
  return chaotic(ids, 7);
}
std::int64_t draft_says(const Ids& ids) {
  return chaotic(ids, 11);
}

FakeModel::Options says(std::function<std::int64_t(const Ids&)> next) {
  FakeModel::Options options;
  options.next = std::move(next);
  return options;
}

// A target with a draft; null: without.
struct DraftBench : Bench {
  DraftBench(FakeModel::Options target, const FakeModel::Options* of_draft, const EngineOptions& options,
             std::int64_t most = 8)
      : Bench(std::move(target), options) {
    if (of_draft == nullptr) return;
    small = std::make_shared<FakeModel>(*of_draft);
    draft = std::make_shared<Draft>(small, model, most);
  }
  std::future<GenerateResult> write(GenerateRequest request) {
    request.draft = draft;
    return engine->submit(std::move(request));
  }
  // When all sequences are gone.
  std::int64_t left_in_draft() {
    engine.reset();
    return small->used();
  }
  std::shared_ptr<FakeModel> small;
  std::shared_ptr<Draft> draft;
};

std::string outcomes(DraftBench& bench) {
  return testing::outcomes([&](GenerateRequest request) { return bench.write(std::move(request)); },
                           /*with_images=*/true);
}

TEST(Draft, NoTokenIsAnother) {
  const FakeModel::Options target = says(target_says), small = says(draft_says);
  DraftBench plain(target, nullptr, limits(64, 8));
  const std::string expected = outcomes(plain);
  for (const auto& options : {limits(64, 8), limits(9, 8), limits(64, 1), limits(3, 3), limits(64, 8, 8)}) {
    DraftBench bench(target, &small, options);
    EXPECT_EQ(outcomes(bench), expected) << options.max_step_tokens;
    const BackendStats stats = bench.engine->stats();
    if (options.max_step_tokens < 64 || options.max_running < 8) continue;
    EXPECT_GT(stats.right_drafts, 0);
    EXPECT_GT(stats.drafted_tokens, stats.right_drafts) << "some have to be wrong for this to be a test";
    EXPECT_LT(stats.steps, plain.engine->stats().steps);
    if (options.prompt_lookup_tokens == 0) {
      EXPECT_EQ(stats.guessed_tokens, stats.drafted_tokens);
      EXPECT_EQ(stats.right_guesses, stats.right_drafts);
    }
  }
}

TEST(Draft, ADraftThatKnowsAllTakesFewSteps) {
  const FakeModel::Options target = says(target_says);
  DraftBench bench(target, &target, limits(64, 8));
  auto request = generate_request(text_prompt(20, 1), 61);
  request.options.ignore_eos = true;
  EXPECT_EQ(bench.write(std::move(request)).get().ids.size(), 61U);
  const BackendStats stats = bench.engine->stats();
  EXPECT_EQ(stats.right_drafts, stats.drafted_tokens);
  EXPECT_LT(stats.steps, 14);
}

TEST(Draft, OneThatIsAlwaysWrongGuessesLittle) {
  const FakeModel::Options small = says([](const Ids&) { return 'z'; });
  DraftBench bench(says(target_says), &small, limits(64, 8));
  auto request = generate_request(text_prompt(20, 1), 61);
  request.options.ignore_eos = true;
  static_cast<void>(bench.write(std::move(request)).get());
  EXPECT_EQ(bench.engine->stats().right_drafts, 0);
  EXPECT_LT(bench.engine->stats().drafted_tokens, 70);
}

TEST(Draft, ItReadsTheTextOfPrompts) {
  const FakeModel::Options target = says(target_says);
  DraftBench bench(target, &target, limits(64, 8));
  bool has_visuals = false;
  bench.small->on_forward = [&](const models::RaggedBatch& batch) {
    has_visuals |= batch.visual_rows.defined();
  };
  auto request = generate_request(make_prompt({"ab", make_visual(1, 4, 4), "cd"}), 30);
  request.options.ignore_eos = true;
  static_cast<void>(bench.write(std::move(request)).get());
  EXPECT_GT(bench.engine->stats().right_drafts, 0) << "it says the same after the last three tokens";
  EXPECT_FALSE(has_visuals);
  EXPECT_EQ(bench.small->steps().front().total(), 4 + 1)
      << "the prompt without the image, and the first token";
}

TEST(Draft, ItsStatesTakeTheTargetsRoom) {
  FakeModel::Options target = says(target_says);
  const FakeModel::Options small = target;
  DraftBench free(target, nullptr, limits(64, 8));
  const std::string expected = outcomes(free);
  for (const std::int64_t capacity : {330, 400, 700, 2000}) {
    target.capacity = capacity;
    DraftBench bench(target, &small, limits(64, 8));
    bench.model->on_forward = [&](const models::RaggedBatch&) {
      EXPECT_LE(bench.small->used(), bench.model->used()) << "what is held for it counts there";
    };
    EXPECT_EQ(outcomes(bench), expected) << capacity;
    EXPECT_LE(bench.model->peak_used(), capacity);
    EXPECT_GE(bench.engine->stats().right_drafts, capacity == 2000 ? 1 : 0);
    EXPECT_EQ(bench.left_in_draft(), 0) << "all is given back";
  }
}

TEST(Draft, WhatFailsInItEndsGuessesAndNothingElse) {
  const FakeModel::Options target = says(target_says);
  DraftBench plain(target, nullptr, limits(64, 8));
  const std::string expected = outcomes(plain);
  for (int fails_at = 1; fails_at < 40; fails_at += 6) {
    DraftBench bench(target, &target, limits(64, 8));
    int calls = 0;
    bench.small->on_forward = [&](const models::RaggedBatch&) {
      if (++calls == fails_at) throw std::runtime_error("no");
    };
    EXPECT_EQ(outcomes(bench), expected) << fails_at;
    EXPECT_EQ(bench.left_in_draft(), 0);
  }
}

TEST(Draft, TokensThatItDoesNotHaveEndItsGuesses) {
  // The target has padding beyond the draft's vocabulary, and says so.
  const FakeModel::Options small = says(draft_says);
  FakeModel::Options target =
      says([](const Ids& ids) { return ids.size() == 30 ? kModelVocab - 1 : target_says(ids); });
  DraftBench plain(target, nullptr, limits(64, 8));
  FakeModel::Options narrow = small;
  narrow.vocab = kTokenizerVocab;
  DraftBench bench(target, &narrow, limits(64, 8));
  for (DraftBench* each : {&plain, &bench}) {
    auto request = generate_request(text_prompt(20, 1), 40);
    request.options.ignore_eos = true;
    static_cast<void>(each->write(std::move(request)).get());
  }
  EXPECT_EQ(bench.left_in_draft(), 0);
  for (const auto& step : bench.small->steps()) {
    for (const std::int64_t length : step.lengths) EXPECT_LE(length, 31);
  }
}

TEST(Draft, CancelledSequencesGiveItsRoomBack) {
  const FakeModel::Options target = says(target_says);
  DraftBench bench(target, &target, limits(64, 8));
  auto request = generate_request(text_prompt(20, 1), 1000);
  request.options.ignore_eos = true;
  request.on_token = [cancel = request.cancel, seen = 0](std::int64_t, const std::string&) mutable {
    if (++seen == 20) cancel.cancel();
    return OnToken::kContinue;
  };
  const GenerateResult result = bench.write(std::move(request)).get();
  EXPECT_EQ(result.finish, FinishReason::kCancelled);
  EXPECT_GE(result.ids.size(), 20U);
  EXPECT_EQ(bench.left_in_draft(), 0);
}

}  // namespace
}  // namespace tte::engine::testing
