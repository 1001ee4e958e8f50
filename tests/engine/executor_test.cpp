#include "engine/executor.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "in_fork.h"

namespace tte::engine {
namespace {

// Notes its turns in a shared log until it has had `turns`.
class Counter : public Stepper {
 public:
  Counter(int name, int turns, std::vector<int>& log) : name_(name), left_(turns), log_(log) {}
  bool step() override {
    if (left_ == 0) return false;
    threads.push_back(at::get_num_threads());
    inference.push_back(c10::InferenceMode::is_enabled());
    log_.push_back(name_);
    if (--left_ == 0) done.set_value(std::this_thread::get_id());
    return left_ > 0;
  }
  std::vector<int> threads;
  std::vector<bool> inference;
  std::promise<std::thread::id> done;

 private:
  int name_;
  int left_;
  std::vector<int>& log_;
};

class Gate : public Stepper {
 public:
  bool step() override {
    if (!std::exchange(passed_, true)) open.get_future().wait();
    return false;
  }
  std::promise<void> open;

 private:
  bool passed_ = false;
};

TEST(Executor, TakesTurnsOnOneThreadWithItsThreadCount) {
  std::vector<int> log;
  auto gate = std::make_shared<Gate>();
  auto a = std::make_shared<Counter>(1, 3, log);
  auto b = std::make_shared<Counter>(2, 5, log);
  Executor executor(2, 1024);
  executor.add(gate);
  executor.add(a);
  executor.add(b);
  gate->open.set_value();
  const auto thread_a = a->done.get_future().get();
  EXPECT_EQ(thread_a, b->done.get_future().get());
  EXPECT_NE(thread_a, std::this_thread::get_id());
  EXPECT_EQ(log, (std::vector<int>{1, 2, 1, 2, 1, 2, 2, 2}));
  EXPECT_EQ(a->threads, (std::vector<int>{2, 2, 2}));
  EXPECT_EQ(a->inference, (std::vector<bool>{true, true, true}));
}

TEST(Executor, ForgetsSteppersThatAreGone) {
  std::vector<int> log;
  Executor executor(1, 1024);
  {
    auto a = std::make_shared<Counter>(1, 1, log);
    executor.add(a);
    a->done.get_future().wait();
  }
  auto b = std::make_shared<Counter>(2, 1, log);
  executor.add(b);
  b->done.get_future().wait();
  executor.wake();
  EXPECT_EQ(log, (std::vector<int>{1, 2}));
}

TEST(Executor, EndsWithWorkLeft) {
  class Endless : public Stepper {
   public:
    bool step() override { return true; }
  };
  auto endless = std::make_shared<Endless>();
  Executor executor(1, 1024);
  executor.add(endless);
  // The destructor joins: a hang is the failure.
}

TEST(Executor, MayEndOnItsOwnThread) {
  class Last : public Stepper {
   public:
    bool step() override {
      if (auto mine = std::exchange(executor, nullptr)) {
        added.get_future().wait();
        mine.reset();
        done.set_value();
      }
      return false;
    }
    std::shared_ptr<Executor> executor;
    std::promise<void> added, done;
  };
  auto last = std::make_shared<Last>();
  auto executor = std::make_shared<Executor>(1, 1024);
  last->executor = executor;
  auto* raw = executor.get();
  executor.reset();
  auto done = last->done.get_future();
  raw->add(last);
  last->added.set_value();
  done.wait();
}

TEST(Executor, KnowsItsOwnThread) {
  class Asks : public Stepper {
   public:
    bool step() override {
      if (!std::exchange(asked_, true)) answer.set_value(Executor::on_own_thread());
      return false;
    }
    std::promise<bool> answer;

   private:
    bool asked_ = false;
  };
  auto asks = std::make_shared<Asks>();
  Executor executor(1, 1024);
  executor.add(asks);
  EXPECT_TRUE(asks->answer.get_future().get());
  EXPECT_FALSE(Executor::on_own_thread());
}

TEST(Executor, AForkedProcessMayDestroyIt) {
  std::vector<int> log;
  auto counter = std::make_shared<Counter>(1, 1, log);
  auto executor = std::make_unique<Executor>(1, 1024);
  executor->add(counter);
  counter->done.get_future().wait();
  EXPECT_EQ(::tte::testing::status_of_fork([&] {
              executor.reset();
              return true;
            }),
            0);
}

}  // namespace
}  // namespace tte::engine
