// What single requests get: tokens, text, vectors, reasons, errors.
#include "engine/engine.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/fake_model.h"
#include "expect_error.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using tte::testing::message_of;

TEST(Generate, EndsAtAnEndToken) {
  Bench bench(scripted(3, bytes_of("hello")));
  const auto result = bench.generate(make_prompt({std::string("abc")}), 20).get();
  auto expected = bytes_of("hello");
  expected.push_back(kEos);
  EXPECT_EQ(result.ids, expected);
  EXPECT_EQ(result.text, "hello");
  EXPECT_EQ(result.finish, FinishReason::kStop);
  EXPECT_GE(result.queue_seconds, 0);
  EXPECT_GT(result.prefill_seconds, 0);
  EXPECT_GT(result.decode_seconds, 0);
}

TEST(Generate, EndsAtMaxNewTokens) {
  Bench bench(scripted(3, bytes_of("hello")));
  const auto result = bench.generate(make_prompt({std::string("abc")}), 4).get();
  EXPECT_EQ(result.text, "hell");
  EXPECT_EQ(result.finish, FinishReason::kLength);
  // An end token in the last place still is one.
  EXPECT_EQ(bench.generate(make_prompt({std::string("abd")}), 6).get().finish, FinishReason::kStop);
}

TEST(Generate, StopTokensIgnoreEosAndMinNewTokens) {
  Bench bench(scripted(3, {104, kEos, 105, 106}));
  auto request = generate_request(make_prompt({std::string("abc")}), 10);
  request.options.ignore_eos = true;
  request.options.stop_token_ids = {106};
  auto result = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(result.ids, (std::vector<std::int64_t>{104, kEos, 105, 106}));
  EXPECT_EQ(result.text, "hij");
  EXPECT_EQ(result.finish, FinishReason::kStop);

  request = generate_request(make_prompt({std::string("abc")}), 10);
  request.options.min_new_tokens = 3;
  result = bench.engine->submit(std::move(request)).get();
  ASSERT_GE(result.ids.size(), 3U);
  EXPECT_NE(result.ids[1], kEos) << "the end token may not come yet";
}

TEST(Generate, AStopTokenOutsideOfTheVocabularyIsRefused) {
  Bench bench;
  auto request = generate_request(make_prompt({std::string("abc")}), 10);
  request.options.stop_token_ids = {106, kModelVocab};
  EXPECT_THAT(message_of<InputError>([&] { bench.engine->submit(std::move(request)); }),
              AllOf(HasSubstr("stop_token_ids has 320"), HasSubstr("from 0 to 319")));
}

TEST(Generate, StopStringsAreCutOff) {
  Bench bench(scripted(3, bytes_of("one\xE2\x82\xAC two")));
  auto request = generate_request(make_prompt({std::string("abc")}), 30);
  request.options.stop = {"never", "\xE2\x82\xAC t"};
  std::string streamed;
  request.on_token = [&](std::int64_t, const std::string& text) {
    streamed += text;
    return OnToken::kContinue;
  };
  const auto result = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(result.text, "one");
  EXPECT_EQ(streamed, "one");
  EXPECT_EQ(result.finish, FinishReason::kStop);
  EXPECT_EQ(result.ids, bytes_of("one\xE2\x82\xAC t"));
}

TEST(Generate, HeldBackTextArrivesWithTheLastToken) {
  Bench bench(scripted(3, bytes_of("xab\xC3")));
  auto request = generate_request(make_prompt({std::string("abc")}), 4);
  request.options.stop = {"ab\xEF\xBF\xBD!"};
  std::vector<std::string> streamed;
  request.on_token = [&](std::int64_t, const std::string& text) {
    streamed.push_back(text);
    return OnToken::kContinue;
  };
  const auto result = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(streamed, (std::vector<std::string>{"x", "", "", "ab\xEF\xBF\xBD"}));
  EXPECT_EQ(result.text, "xab\xEF\xBF\xBD");
}

TEST(Generate, ThinkingBudgetForcesTheCloseTag) {
  FakeModel::Options options;
  options.next = [](const std::vector<std::int64_t>& ids) -> std::int64_t {
    return ids.back() == kThinkEnd ? 'C' : ids.back() == 'C' ? kEos : 't';
  };
  Bench bench(options);
  auto prompt = *make_prompt({std::string("q?")});
  prompt.ids.back() = kThink;  // Opened by the template.
  auto request = generate_request(std::make_shared<models::Prompt>(prompt), 50);
  request.options.max_think_tokens = 3;
  const auto result = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(result.text, "ttt</think>C");
  EXPECT_EQ(result.finish, FinishReason::kStop);
}

TEST(Generate, APlaceholderThatIsWrittenIsText) {
  Bench bench(scripted(3, {kImagePad, 'x'}));
  const auto result = bench.generate(make_prompt({std::string("abc")}), 10).get();
  EXPECT_EQ(result.ids, (std::vector<std::int64_t>{kImagePad, 'x', kEos}));
  EXPECT_EQ(result.text, "x") << "rows past the tokenizer have no text";
  for (const auto& step : bench.model->steps()) EXPECT_EQ(step.visual_rows, 0);
}

TEST(Generate, SeedsDecideAndDrawsDiffer) {
  Bench bench;
  const auto draw = [&](std::optional<std::uint64_t> seed) {
    auto request = generate_request(text_prompt(5, 1), 30);
    request.options.temperature = 5.0;
    request.options.ignore_eos = true;
    request.options.seed = seed;
    return bench.engine->submit(std::move(request)).get().ids;
  };
  EXPECT_EQ(draw(7), draw(7));
  EXPECT_NE(draw(7), draw(8));
  EXPECT_NE(draw(std::nullopt), draw(std::nullopt));
}

TEST(Generate, NextPositionsFollowThePrompts) {
  Bench bench;
  std::vector<std::vector<std::int64_t>> seen;
  bench.model->on_forward = [&](const models::RaggedBatch& batch) {
    if (batch.ids.size(0) > 1) return;
    const auto* p = batch.positions.const_data_ptr<std::int64_t>();
    seen.push_back({p[0], p[1], p[2]});
  };
  // 2 + 4 image tokens over 2 positions + 2: eight tokens, six positions.
  auto request =
      generate_request(make_prompt({std::string("ab"), make_visual(1, 4, 4), std::string("cd")}), 3);
  request.options.ignore_eos = true;
  bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(seen, (std::vector<std::vector<std::int64_t>>{{6, 6, 6}, {7, 7, 7}}));
}

TEST(Encode, PoolsAsAsked) {
  EngineOptions options;
  options.max_step_tokens = 7;  // Chunks.
  Bench bench({}, options);
  const auto prompt =
      make_prompt({std::string("a picture "), make_visual(3, 4, 6), std::string(" and words")});
  const at::Tensor all = bench.model->reference(*prompt);

  auto last = bench.encode(prompt).get().hidden;
  EXPECT_TRUE(at::equal(last, all[prompt->size() - 1]));
  EXPECT_EQ(last.scalar_type(), at::kFloat);
  last.mul_(2);  // An ordinary tensor: results may be changed in place.

  for (const std::int64_t row : {std::int64_t{0}, std::int64_t{8}, prompt->size() - 1}) {
    auto request = encode_request(prompt, Output::kRow);
    request.row = row;
    EXPECT_TRUE(at::equal(bench.engine->submit(std::move(request)).get().hidden, all[row])) << row;
  }
  const at::Tensor none = bench.encode(prompt, Output::kAllRows).get().hidden;
  EXPECT_TRUE(at::equal(none, all));
  const at::Tensor mean = bench.encode(prompt, Output::kMean).get().hidden;
  EXPECT_TRUE(at::allclose(mean, all.mean(0), 1e-6, 1e-6));
  EXPECT_EQ(mean.dim(), 1);
}

TEST(Encode, LogProbabilitiesOfCandidates) {
  Bench bench;
  const auto prompt = text_prompt(20, 4);
  const at::Tensor all = at::log_softmax(bench.model->logits(bench.model->reference(*prompt)), 1);
  auto request = encode_request(prompt, Output::kLogProbs);
  request.candidates = {7, 0, kModelVocab - 1, 7};
  const at::Tensor last = bench.engine->submit(std::move(request)).get().hidden;
  EXPECT_EQ(last.sizes(), (std::vector<std::int64_t>{4}));
  EXPECT_TRUE(
      at::equal(last, all[19].index_select(0, at::tensor({7, 0, static_cast<int>(kModelVocab) - 1, 7}))));
  request = encode_request(prompt, Output::kLogProbs);
  request.candidates = {3};
  request.row = 5;
  EXPECT_EQ(bench.engine->submit(std::move(request)).get().hidden[0].item<float>(), all[5][3].item<float>());
  request = encode_request(prompt, Output::kLogProbs);
  request.candidates = {3, kModelVocab};
  EXPECT_THAT(message_of<InputError>([&] { bench.engine->submit(std::move(request)); }),
              AllOf(HasSubstr("id 320"), HasSubstr("from 0 to 319")));
}

TEST(Engine, RefusesWhatCanNeverFit) {
  FakeModel::Options options;
  options.capacity = 40;
  options.max_positions = 35;
  Bench bench(options);
  const auto prompt = text_prompt(30, 1);
  auto message = error_of<InputError>([&] { bench.generate(prompt, 11); });
  EXPECT_THAT(message, HasSubstr("state_bytes"));
  EXPECT_THAT(message, HasSubstr("30 tokens and max_new_tokens = 11"));
  EXPECT_THAT(message, HasSubstr("41"));
  EXPECT_THAT(message, HasSubstr("the backend's state_bytes to at least 41"));
  message = error_of<InputError>([&] { bench.generate(prompt, 10); });
  EXPECT_THAT(message, HasSubstr("40 positions"));
  EXPECT_THAT(message, HasSubstr("knows 35"));
  EXPECT_THAT(error_of<InputError>([&] { bench.encode(text_prompt(41, 1)); }), HasSubstr("41 tokens"));
  EXPECT_EQ(bench.generate(prompt, 5).get().ids.size(), 5U) << "what fits still runs";
}

TEST(Engine, RoomIsCountedInBytes) {
  FakeModel::Options options;
  options.slot = 25;
  options.capacity = 60;
  Bench bench(options);
  EXPECT_THAT(
      error_of<InputError>([&] { bench.encode(text_prompt(36, 1)); }),
      HasSubstr("a prompt of 36 tokens needs 61 bytes of sequence states, but the model has 60 in all"));
  // One token costs 26 bytes: two of them fit beside each other, three do not.
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<EncodeResult>> results;
  for (std::uint64_t i = 0; i < 3; ++i) results.push_back(bench.encode(text_prompt(1, i)));
  hold->let_go();
  for (auto& result : results) result.get();
  EXPECT_EQ(bench.engine->stats().peak_running, 2);
}

TEST(Engine, RefusesRequestsThatMakeNoSense) {
  Bench bench;
  const auto prompt = text_prompt(5, 1);
  EXPECT_THAT(error_of<InputError>([&] { bench.encode(nullptr); }), HasSubstr("empty"));
  EXPECT_THAT(error_of<InputError>([&] { bench.encode(std::make_shared<models::Prompt>()); }),
              HasSubstr("empty"));
  EXPECT_THAT(error_of<InputError>([&] { bench.generate(prompt, 0); }), HasSubstr("max_new_tokens"));
  auto outside = *prompt;
  outside.ids[2] = kModelVocab;
  EXPECT_THAT(error_of<InputError>([&] { bench.encode(std::make_shared<models::Prompt>(outside)); }),
              HasSubstr("token id 320"));
  auto contradiction = *make_prompt({make_visual(1, 4, 4)});
  contradiction.visual_tokens = {3};
  EXPECT_THAT(error_of<InputError>([&] { bench.encode(std::make_shared<models::Prompt>(contradiction)); }),
              HasSubstr("contradicts itself"));
  for (const std::int64_t row : {std::int64_t{-1}, prompt->size()}) {
    auto request = encode_request(prompt);
    request.row = row;
    EXPECT_THAT(error_of<InputError>([&] { bench.engine->submit(std::move(request)); }),
                HasSubstr(fmt::format("row {}", row)));
  }
  auto request = generate_request(prompt, 5);
  request.options.max_think_tokens = 4;
  request.think_close.clear();
  EXPECT_THAT(error_of<InputError>([&] { bench.engine->submit(std::move(request)); }),
              HasSubstr("max_think_tokens"));
  EngineOptions options;
  options.max_step_tokens = 0;
  EXPECT_THAT(error_of<InputError>([&] { Bench({}, options); }), HasSubstr("max_step_tokens = 0"));
}

TEST(Engine, SeveralRowsAreThoseOfAllInStepsOfAnySize) {
  for (const int step : {1, 2, 3, 64}) {
    EngineOptions options;
    options.max_step_tokens = step;
    Bench bench({}, options);
    const at::Tensor all = bench.encode(text_prompt(9, 1), Output::kAllRows).get().hidden;
    for (const std::int64_t rows : {1, 2, 5}) {
      auto request = encode_request(text_prompt(9, 1));
      request.row = 3;
      request.rows = rows;
      auto beside = bench.encode(text_prompt(7, 2), Output::kRow);
      const at::Tensor found = bench.engine->submit(std::move(request)).get().hidden;
      EXPECT_TRUE(found.equal(rows == 1 ? all.select(0, 3) : all.narrow(0, 3, rows)));
      EXPECT_EQ(beside.get().hidden.dim(), 1);
    }
  }
  Bench bench;
  for (const std::int64_t rows : {0, 7}) {
    auto request = encode_request(text_prompt(9, 1));
    request.row = 3;
    request.rows = rows;
    EXPECT_THAT(error_of<InputError>([&] { bench.engine->submit(std::move(request)); }),
                HasSubstr("from row 3"));
  }
}

TEST(Engine, AFailingModelFailsTheRequestsOfItsStepOnly) {
  Bench bench;
  bool fail = true;
  bench.model->on_forward = [&](const models::RaggedBatch&) {
    if (std::exchange(fail, false)) throw DeviceError("out of memory: 3 GB wanted; lower max_step_tokens.");
  };
  auto hold = Hold::on(*bench.executor);
  auto a = bench.encode(text_prompt(5, 1), Output::kRow);
  auto b = bench.generate(text_prompt(5, 2), 3);
  hold->let_go();
  const auto message = error_of<DeviceError>([&] { a.get(); });
  EXPECT_THAT(message, HasSubstr("out of memory"));
  EXPECT_THAT(error_of<DeviceError>([&] { b.get(); }), HasSubstr("out of memory"));
  EXPECT_NO_THROW(bench.encode(text_prompt(5, 1)).get());
}

TEST(Engine, OtherExceptionsOfAModelArriveAsErrors) {
  Bench bench;
  int call = 0;
  bench.model->on_forward = [&](const models::RaggedBatch&) {
    if (call == 0) throw std::bad_alloc();
    if (call == 1) TORCH_CHECK(false, "shapes do not match");
    if (call == 2) throw 5;
    if (call == 3) {
      TORCH_CHECK(false, "[enforce fail at alloc_cpu.cpp:136] data. DefaultCPUAllocator: not enough memory");
    }
    ++call;
  };
  EXPECT_THAT(error_of<DeviceError>([&] { bench.encode(text_prompt(5, 1)).get(); }),
              HasSubstr("memory ran out"));
  call = 1;
  EXPECT_THAT(error_of<Error>([&] { bench.encode(text_prompt(5, 1)).get(); }),
              HasSubstr("shapes do not match"));
  call = 2;
  EXPECT_THAT(error_of<Error>([&] { bench.encode(text_prompt(5, 1)).get(); }), HasSubstr("not an exception"));
  call = 3;  // What torch throws where malloc has nothing left.
  EXPECT_THAT(error_of<DeviceError>([&] { bench.encode(text_prompt(5, 1)).get(); }),
              HasSubstr("memory ran out"));
  call = 4;
  EXPECT_NO_THROW(bench.encode(text_prompt(5, 1)).get()) << "the engine goes on";
}

TEST(Engine, NanLogitsFailTheirSequenceOnly) {
  Bench bench;
  bench.model->on_logits = [](at::Tensor& logits) {
    if (logits.size(0) == 2) logits[0].fill_(std::nan(""));
  };
  auto hold = Hold::on(*bench.executor);
  auto bad = bench.generate(text_prompt(5, 1), 3);
  auto good = bench.generate(text_prompt(5, 2), 3);
  hold->let_go();
  EXPECT_THAT(error_of<ModelError>([&] { bad.get(); }), HasSubstr("the model's logits are NaN"));
  EXPECT_EQ(good.get().ids.size(), 3U);
}

}  // namespace
}  // namespace tte::engine::testing
