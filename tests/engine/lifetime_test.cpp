// Callbacks, cancellation, destruction, many threads.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <utility>

#include "engine/fake_model.h"
#include "in_fork.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

using ::testing::HasSubstr;

GenerateRequest endless(std::uint64_t seed) {
  auto request = generate_request(text_prompt(5, seed), 1'000'000'000);
  request.options.ignore_eos = true;
  return request;
}

TEST(Callbacks, SeeEveryTokenAndMayStop) {
  Bench bench(scripted(3, bytes_of("hello")));
  std::vector<std::int64_t> ids;
  std::string text;
  auto request = generate_request(make_prompt({std::string("abc")}), 20);
  request.on_token = [&](std::int64_t id, const std::string& piece) {
    ids.push_back(id);
    text += piece;
    return ids.size() == 3 ? OnToken::kStop : OnToken::kContinue;
  };
  const auto result = bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(result.finish, FinishReason::kCallback);
  EXPECT_EQ(result.text, "hel");
  EXPECT_EQ(text, "hel");
  EXPECT_EQ(result.ids, ids);
}

TEST(Callbacks, StopAtTheLastTokenDoesNotHideTheReason) {
  Bench bench(scripted(3, bytes_of("h")));
  auto request = generate_request(make_prompt({std::string("abc")}), 20);
  request.on_token = [](std::int64_t id, const std::string&) {
    return id == kEos ? OnToken::kStop : OnToken::kContinue;
  };
  EXPECT_EQ(bench.engine->submit(std::move(request)).get().finish, FinishReason::kStop);
}

TEST(Callbacks, ExceptionsEndTheirOwnRequest) {
  Bench bench;
  struct Mine : std::exception {
    int value = 42;
  };
  auto hold = Hold::on(*bench.executor);
  auto request = endless(1);
  request.on_token = [n = 0](std::int64_t, const std::string&) mutable {
    if (++n == 3) throw Mine();
    return OnToken::kContinue;
  };
  auto bad = bench.engine->submit(std::move(request));
  auto good = bench.generate(text_prompt(5, 2), 10);
  hold->let_go();
  try {
    bad.get();
    FAIL() << "no exception";
  } catch (const Mine& mine) {
    EXPECT_EQ(mine.value, 42);
  }
  EXPECT_FALSE(good.get().ids.empty());
}

TEST(Callbacks, OnDoneComesAfterTheFuture) {
  Bench bench;
  std::promise<bool> ready;
  std::future<EncodeResult> future;
  auto hold = Hold::on(*bench.executor);
  auto request = encode_request(text_prompt(5, 1));
  request.on_done = [&] {
    ready.set_value(future.wait_for(std::chrono::seconds(0)) == std::future_status::ready);
    throw std::runtime_error("ignored");
  };
  future = bench.engine->submit(std::move(request));
  hold->let_go();
  EXPECT_TRUE(ready.get_future().get());
  EXPECT_NO_THROW(bench.encode(text_prompt(5, 2)).get());
}

TEST(Callbacks, MaySubmitToTheirOwnEngine) {
  Bench bench;
  std::promise<std::future<EncodeResult>> next;
  auto request = generate_request(text_prompt(5, 1), 3);
  request.on_token = [&, first = true](std::int64_t, const std::string&) mutable {
    if (std::exchange(first, false)) next.set_value(bench.encode(text_prompt(6, 2)));
    return OnToken::kContinue;
  };
  auto trace = bench.engine->submit(std::move(request));
  EXPECT_EQ(next.get_future().get().get().hidden.numel(), kHidden);
  trace.get();
}

TEST(Cancel, ARunningSequenceKeepsWhatItWrote) {
  Bench bench;
  auto request = endless(1);
  CancelToken cancel = request.cancel;
  std::atomic<int> tokens = 0;
  request.on_token = [&](std::int64_t, const std::string&) {
    ++tokens;
    return OnToken::kContinue;
  };
  auto future = bench.engine->submit(std::move(request));
  while (tokens < 5) std::this_thread::yield();
  cancel.cancel();
  const auto result = future.get();
  EXPECT_EQ(result.finish, FinishReason::kCancelled);
  EXPECT_GE(result.ids.size(), 5U);
  EXPECT_EQ(static_cast<int>(result.ids.size()), tokens);
  EXPECT_EQ(bench.encode(text_prompt(5, 3)).get().hidden.numel(), kHidden);
}

TEST(Cancel, TakesEffectInTheNextStep) {
  Bench bench;
  auto request = endless(1);
  const CancelToken cancel = request.cancel;
  request.on_token = [cancel, n = 0](std::int64_t, const std::string&) mutable {
    if (++n == 4) cancel.cancel();
    return OnToken::kContinue;
  };
  EXPECT_EQ(bench.engine->submit(std::move(request)).get().ids.size(), 4U);
}

TEST(Cancel, WaitingRequestsNeedNotComeToRun) {
  EngineOptions options;
  options.max_running = 1;
  Bench bench({}, options);
  auto first = endless(1);
  const CancelToken cancel_first = first.cancel;
  std::promise<void> begun;
  first.on_token = [&, once = false](std::int64_t, const std::string&) mutable {
    if (!std::exchange(once, true)) begun.set_value();
    return OnToken::kContinue;
  };
  auto running = bench.engine->submit(std::move(first));
  begun.get_future().wait();
  auto generate = endless(2);
  auto encode = encode_request(text_prompt(5, 3), Output::kRow);
  encode.cancel = generate.cancel;
  const CancelToken cancel = generate.cancel;
  auto trace = bench.engine->submit(std::move(generate));
  auto vector = bench.engine->submit(std::move(encode));
  std::thread([cancel] { cancel.cancel(); }).join();
  const auto result = trace.get();
  EXPECT_EQ(result.finish, FinishReason::kCancelled);
  EXPECT_TRUE(result.ids.empty());
  EXPECT_THAT(error_of<CancelledError>([&] { vector.get(); }), HasSubstr("was cancelled"));
  cancel_first.cancel();
  running.get();
}

TEST(Destruction, LeavesNoFutureWithoutResult) {
  EngineOptions options;
  options.max_running = 1;
  Bench bench({}, options);
  auto running = bench.engine->submit(endless(1));
  auto waiting = bench.engine->submit(endless(2));
  auto vector = bench.encode(text_prompt(5, 3));
  auto pinned = encode_request(text_prompt(5, 3));
  bench.engine.reset();
  EXPECT_EQ(running.get().finish, FinishReason::kCancelled);
  EXPECT_EQ(waiting.get().finish, FinishReason::kCancelled);
  EXPECT_THROW(vector.get(), CancelledError);
  EXPECT_EQ(bench.model->used(), 0);
}

TEST(Destruction, PinsMayOutliveTheEngine) {
  Bench bench;
  auto request = encode_request(text_prompt(5, 3));
  request.pin_state = true;
  auto pin = bench.engine->submit(std::move(request)).get().pin;
  bench.engine.reset();
  EXPECT_EQ(bench.model->used(), 0);
  pin.reset();
}

TEST(Destruction, ByTheEnginesOwnCallback) {
  Bench bench;
  std::unique_ptr<Engine> engine = std::move(bench.engine);
  auto request = endless(1);
  request.on_token = [&](std::int64_t, const std::string&) {
    engine.reset();
    return OnToken::kContinue;
  };
  auto* raw = engine.get();
  auto hold = Hold::on(*bench.executor);
  auto first = raw->submit(std::move(request));
  auto second = raw->submit(endless(2));
  bench.executor
      .reset();  // The engine holds the last reference, so the executor goes on its own thread, too.
  auto released = std::move(hold);
  released->let_go();
  EXPECT_EQ(first.get().finish, FinishReason::kCancelled);
  EXPECT_EQ(second.get().finish, FinishReason::kCancelled);
}

TEST(Destruction, ByACallbackOfAnotherEngine) {
  Bench bench;
  auto other = std::make_unique<Engine>(std::make_shared<FakeModel>(), bench.tokenizer, bench.executor,
                                        EngineOptions());
  auto victim = other->submit(endless(1));
  auto request = generate_request(text_prompt(5, 2), 3);
  request.on_token = [&](std::int64_t, const std::string&) {
    other.reset();
    return OnToken::kContinue;
  };
  bench.engine->submit(std::move(request)).get();
  EXPECT_EQ(victim.get().finish, FinishReason::kCancelled);
}

TEST(Threads, ManyCallersGetTheirOwnResults) {
  FakeModel::Options options;
  options.capacity = 400;
  EngineOptions limits;
  limits.max_step_tokens = 24;
  limits.max_running = 6;
  Bench bench(options, limits);
  std::atomic<int> wrong = 0;
  const auto caller = [&](std::uint64_t seed) {
    for (std::uint64_t i = 0; i < 15; ++i) {
      const auto prompt = make_prompt({std::string("shared "), make_visual(i % 3, 4, 4),
                                       std::string(1 + (seed + i) % 20, static_cast<char>('a' + i % 5))});
      auto encode = encode_request(prompt);
      encode.pin_state = i % 4 == 0;
      auto vector = bench.engine->submit(std::move(encode));
      auto request = generate_request(prompt, 12);
      const CancelToken cancel = request.cancel;
      std::atomic<int> tokens = 0;
      request.on_token = [&tokens](std::int64_t, const std::string&) {
        ++tokens;
        return OnToken::kContinue;
      };
      request.pin_state = i % 5 == 0;
      auto trace = bench.engine->submit(std::move(request));
      if (i % 6 == 0) cancel.cancel();
      const auto result = vector.get();
      if (!at::equal(result.hidden, bench.model->reference(*prompt)[-1])) ++wrong;
      if (static_cast<int>(trace.get().ids.size()) != tokens) ++wrong;
      (void)bench.engine->stats();
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 8; ++i) threads.emplace_back(caller, i);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Threads, EnginesComeAndGoWhileOthersRun) {
  Bench bench;
  auto steady = endless(1);
  const CancelToken cancel = steady.cancel;
  auto running = bench.engine->submit(std::move(steady));
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 10; ++i) {
        Engine engine(std::make_shared<FakeModel>(), bench.tokenizer, bench.executor, {});
        auto done = engine.submit(encode_request(text_prompt(5, t)));
        auto cut = engine.submit(endless(i));
        if (i % 2 == 0) done.get();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  cancel.cancel();
  EXPECT_EQ(running.get().finish, FinishReason::kCancelled);
}

TEST(Fork, AForkedProcessMayDestroyAnEngineInTheMiddleOfAStep) {
  Bench bench;
  std::promise<void> stepping, go_on;
  bench.model->on_forward = [&, first = true](const models::RaggedBatch&) mutable {
    if (!std::exchange(first, false)) return;
    stepping.set_value();
    go_on.get_future().wait();
  };
  auto result = bench.engine->submit(endless(1));
  stepping.get_future().wait();
  EXPECT_EQ(::tte::testing::status_of_fork([&] {
              bool refused = false;
              try {
                bench.engine->submit(endless(2));
              } catch (const DeviceError&) {
                refused = true;
              }
              bench.engine.reset();
              bench.executor.reset();
              return refused;
            }),
            0);
  go_on.set_value();
  bench.engine.reset();
  EXPECT_EQ(result.get().finish, FinishReason::kCancelled);
}

}  // namespace
}  // namespace tte::engine::testing
