#include "api/call.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <new>
#include <stdexcept>
#include <thread>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::api {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::tte::testing::message_of;

// Prepares every item with `job` on the pool and finishes it.
void run(Call& call, const std::function<int(std::size_t)>& job,
         const std::function<void(std::size_t, int)>& then = {}) {
  call.run([&](std::size_t i) {
    call.prepare<int>(i, std::function<int()>([job, i] { return job(i); }), [&, i](int value, double) {
      if (then) then(i, value);
      call.finish(i);
    });
  });
}

TEST(Call, NoItemsIsNothingToDo) {
  base::ThreadPool pool(1);
  Call call({}, 0, pool, 4);
  call.run([](std::size_t) { FAIL(); });
}

TEST(Call, ResultsBelongToTheirItems) {
  base::ThreadPool pool(3);
  std::vector<int> out(100);
  CallOptions options;
  std::vector<std::size_t> progress;
  options.progress = [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, 100U);
    progress.push_back(done);
  };
  Call call(options, out.size(), pool, 7);
  run(
      call, [](std::size_t i) { return static_cast<int>(i * i); },
      [&](std::size_t i, int value) { out[i] = value; });
  for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], static_cast<int>(i * i));
  ASSERT_EQ(progress.size(), 100U);
  EXPECT_EQ(progress.back(), 100U);
}

TEST(Call, TheWindowBoundsWhatIsInFlight) {
  base::ThreadPool pool(4);
  CallOptions options;
  options.max_in_flight = 2;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  Call call(options, 40, pool, 100);
  call.run([&](std::size_t i) {
    most = std::max(most.load(), ++running);
    call.prepare<int>(i, std::function<int()>([] { return 0; }), [&, i](int, double) {
      --running;
      call.finish(i);
    });
  });
  EXPECT_LE(most.load(), 2);
}

TEST(Call, NothingStartsBesideAFullGigabyte) {
  base::ThreadPool pool(1);
  Call call({}, 30, pool, 100);
  std::size_t started = 0;
  std::size_t finished = 0;
  std::vector<std::size_t> holding;
  call.run([&](std::size_t i) {
    EXPECT_TRUE(holding.empty()) << "item " << i << " started beside " << holding.size() << " GB";
    ++started;
    call.prepare<int>(i, std::function<int()>([] { return 0; }), [&, i](int, double) {
      call.reserve_bytes(i, std::int64_t{1} << 30);
      holding.push_back(i);
      if (finished + holding.size() < started) return;
      for (const std::size_t item : holding) call.finish(item);
      finished += holding.size();
      holding.clear();
    });
  });
  EXPECT_EQ(finished, 30U);
}

TEST(Call, AnErrorStopsTheCall) {
  base::ThreadPool pool(2);
  Call call({}, 20, pool, 4);
  std::size_t finished = 0;
  EXPECT_THAT(message_of<InputError>([&] {
                run(
                    call,
                    [](std::size_t i) -> int {
                      if (i == 5) throw InputError("it is bad.");
                      return 0;
                    },
                    [&](std::size_t, int) { ++finished; });
              }),
              HasSubstr("item 5: it is bad."));
  EXPECT_LT(finished, 20U);
}

TEST(Call, SkippedErrorsAreKept) {
  base::ThreadPool pool(2);
  CallOptions options;
  options.on_error = OnError::kSkip;
  Call call(options, 10, pool, 4);
  std::vector<std::size_t> failed;
  call.on_failed = [&](std::size_t i) { failed.push_back(i); };
  std::size_t finished = 0;
  run(
      call,
      [](std::size_t i) -> int {
        if (i == 3) throw InputError("it is bad.");
        return 0;
      },
      [&](std::size_t, int) { ++finished; });
  EXPECT_EQ(finished, 9U);
  EXPECT_THAT(failed, ElementsAre(3));
  ASSERT_EQ(call.errors().size(), 1U);
  EXPECT_EQ(call.errors()[0].message, "item 3: it is bad.");
  EXPECT_TRUE(call.failed(3));
}

TEST(Call, MemoryThatRunsOutIsTheErrorOfTheItemThatWantedIt) {
  base::ThreadPool pool(2);
  CallOptions options;
  options.on_error = OnError::kSkip;
  Call call(options, 6, pool, 4);
  call.name_of = [](std::size_t i) { return "row " + std::to_string(i); };
  std::size_t finished = 0;
  run(
      call,
      [](std::size_t i) -> int {
        if (i == 1) throw std::bad_alloc();
        if (i == 2) static_cast<void>(at::empty({std::int64_t{1} << 59}, at::kByte));
        return 0;
      },
      [&](std::size_t i, int) {
        if (i == 4) throw std::bad_alloc();  // On the calling thread.
        ++finished;
      });
  EXPECT_EQ(finished, 3U);
  ASSERT_EQ(call.errors().size(), 3U);
  for (const ItemError& error : call.errors()) {
    EXPECT_THAT(error.message, AllOf(HasSubstr("row " + std::to_string(error.index) + ": memory ran out"),
                                     HasSubstr("media_threads")));
  }
  Call strict({}, 1, pool, 4);
  EXPECT_THAT(
      message_of<OutOfMemoryError>([&] { run(strict, [](std::size_t) -> int { throw std::bad_alloc(); }); }),
      HasSubstr("item 0: memory ran out"));
}

TEST(Call, WhatNamesItsItemAlreadyAndWhatACallbackThrowsIsHandedOutAsItIs) {
  base::ThreadPool pool(1);
  Input input("a");
  input.error = "row 7 has no image.";
  Call given({}, 1, pool, 1);
  EXPECT_EQ(message_of<InputError>([&] { given.run([&](std::size_t) { check_input(input); }); }),
            "row 7 has no image.");
  CallOptions options;
  options.progress = [](std::size_t, std::size_t) { throw ModelError("mine"); };
  Call watched(options, 1, pool, 1);
  EXPECT_EQ(message_of<ModelError>([&] { run(watched, [](std::size_t) { return 0; }); }), "mine");
}

TEST(Call, ErrorsOfMoreThanAnItemAreNotSkipped) {
  base::ThreadPool pool(1);
  CallOptions options;
  options.on_error = OnError::kSkip;
  Call call(options, 2, pool, 4);
  EXPECT_THROW(run(call, [](std::size_t) -> int { throw DeviceError("out of memory."); }), DeviceError);
}

TEST(Call, PollRunsWhileItWaitsAndMayThrow) {
  std::promise<void> released;  // Outlive the pool's threads.
  std::atomic<bool> done = false;
  base::ThreadPool pool(1);
  CallOptions options;
  int polls = 0;
  options.poll = [&] {
    if (++polls == 2) throw std::runtime_error("interrupted");
  };
  Call call(options, 1, pool, 4);
  EXPECT_THROW(run(call,
                   [&done, wait = released.get_future().share()](std::size_t) {
                     wait.wait_for(std::chrono::seconds(30));
                     done = true;
                     return 0;
                   }),
               std::runtime_error);
  EXPECT_FALSE(done) << "the job was waited for";
  released.set_value();
}

TEST(Call, CancelledCallsThrow) {
  base::ThreadPool pool(1);
  CallOptions options;
  options.cancel.cancel();
  Call before(options, 3, pool, 4);
  EXPECT_THAT(message_of<CancelledError>([&] { run(before, [](std::size_t) { return 0; }); }),
              HasSubstr("0 of 3"));
}

TEST(Call, ACallbackThatHandsNoTokensOverEndsTheCall) {
  base::ThreadPool pool(1);
  CallOptions options;
  options.around_tokens = [](const std::function<void()>& /*hand_over*/) {};
  Call call(options, 1, pool, 1);
  EXPECT_THAT(message_of<Error>([&] {
                call.run([&](std::size_t i) {
                  call.tokens(i, [](std::int64_t, const std::string&) { return true; })(1, "a");
                });
              }),
              HasSubstr("without calling hand_over"));
}

TEST(Call, TokensComeOnTheCallingThreadInTheirOrder) {
  base::ThreadPool pool(1);
  CallOptions options;
  bool inside = false;
  options.around_tokens = [&](const std::function<void()>& hand_over) {
    inside = true;
    hand_over();
    inside = false;
  };
  Call call(options, 1, pool, 1);
  std::vector<std::int64_t> seen;
  const auto caller = std::this_thread::get_id();
  std::thread engine;
  std::function<OnToken(std::int64_t, const std::string&)> late;
  call.run([&](std::size_t i) {
    const auto tokens = call.tokens(i, [&, i](std::int64_t id, const std::string& text) {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      EXPECT_TRUE(inside);
      EXPECT_EQ(text, "a");
      seen.push_back(id);
      if (id == 9) call.finish(i);
      return true;
    });
    late = tokens;
    engine = std::thread([tokens] {
      for (int id = 0; id < 10; ++id) EXPECT_EQ(tokens(id, "a"), OnToken::kContinue);
    });
  });
  engine.join();
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST(Call, NoTokenIsHandedOverAfterAStop) {
  base::ThreadPool pool(1);
  Call call({}, 1, pool, 1);
  std::vector<std::int64_t> seen;
  std::function<OnToken(std::int64_t, const std::string&)> tokens;
  call.run([&](std::size_t i) {
    tokens = call.tokens(i, [&](std::int64_t id, const std::string&) {
      seen.push_back(id);
      return id < 1;
    });
    for (int id = 0; id < 4; ++id) EXPECT_EQ(tokens(id, "a"), OnToken::kContinue);
    // Jobs follow the tokens that were there before them.
    call.prepare<int>(i, std::function<int()>([] { return 0; }), [&, i](int, double) {
      EXPECT_EQ(tokens(4, "a"), OnToken::kStop) << "the engine hears of it";
      call.finish(i);
    });
  });
  EXPECT_THAT(seen, ElementsAre(0, 1));
}

TEST(Call, TokensAfterTheCallGoNowhere) {
  base::ThreadPool pool(1);
  std::function<OnToken(std::int64_t, const std::string&)> tokens;
  {
    Call call({}, 1, pool, 1);
    call.run([&](std::size_t i) {
      tokens =
          call.tokens(i, [](std::int64_t, const std::string&) -> bool { throw std::logic_error("late"); });
      call.finish(i);
    });
  }
  EXPECT_EQ(tokens(1, "a"), OnToken::kStop);
}

TEST(Call, WhatATokenCallbackThrowsComesOut) {
  base::ThreadPool pool(1);
  Call call({}, 1, pool, 1);
  EXPECT_THROW(call.run([&](std::size_t i) {
    call.tokens(i, [](std::int64_t, const std::string&) -> bool { throw std::logic_error("mine"); })(1, "a");
  }),
               std::logic_error);
}

TEST(ItemName, IsTheCallersOrTheIndex) {
  Input input("a");
  EXPECT_EQ(item_name(input, 3), "item 3");
  input.name = "row 17\n";
  EXPECT_EQ(item_name(input, 3), "row 17\\x0a");
}

}  // namespace
}  // namespace tte::api
