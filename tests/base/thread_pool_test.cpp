#include "base/thread_pool.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>

#include "in_fork.h"
#include "tte/error.h"

namespace tte::base {
namespace {

template <typename F>
auto submit(ThreadPool& pool, F job) {
  auto task = std::make_shared<std::packaged_task<std::invoke_result_t<F>()>>(std::move(job));
  auto future = task->get_future();
  pool.post([task] { (*task)(); });
  return future;
}

TEST(ThreadPool, RunsEveryJob) {
  ThreadPool pool(3);
  EXPECT_EQ(pool.size(), 3);
  std::vector<std::future<int>> results;
  for (int i = 0; i < 200; ++i) results.push_back(submit(pool, [i] { return i * i; }));
  for (int i = 0; i < 200; ++i) EXPECT_EQ(results[i].get(), i * i);
}

TEST(ThreadPool, OneThreadKeepsTheOrder) {
  ThreadPool pool(1);
  std::vector<int> order;
  for (int i = 0; i < 50; ++i) pool.post([&order, i] { order.push_back(i); });
  submit(pool, [] {}).get();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order.at(i), i);
}

TEST(ThreadPool, AnOwnersJobsLeaveAThreadForOthers) {
  ThreadPool pool(2);
  const int slow = 0, quick = 0;
  std::promise<void> go_on;
  const std::shared_future<void> gate = go_on.get_future().share();
  std::atomic<int> running = 0, most = 0, done = 0;
  for (int i = 0; i < 6; ++i) {
    pool.post(
        [&, gate] {
          const int now = ++running;
          if (now > most) most = now;
          gate.wait();
          --running;
          ++done;
        },
        &slow);
  }
  for (int i = 0; i < 20; ++i) {  // However many of the other's wait before them.
    std::promise<void> ran;
    pool.post([&] { ran.set_value(); }, &quick);
    ran.get_future().wait();
  }
  EXPECT_EQ(done, 0);
  go_on.set_value();
  while (done < 6) std::this_thread::yield();
  EXPECT_LE(most, 2);
}

TEST(ThreadPool, SurvivesAnExceptionOfAJob) {
  ThreadPool pool(1);
  pool.post([] { throw std::runtime_error("an error of a posted job, logged on purpose"); });
  EXPECT_EQ(submit(pool, [] { return 1; }).get(), 1) << "the thread survives";
}

TEST(ThreadPool, RefusesNoThreads) {
  EXPECT_THROW(ThreadPool(0), InputError);
  EXPECT_THROW(ThreadPool(-1), InputError);
}

TEST(ThreadPool, DestructionFinishesTheRunningJobAndDropsTheWaiting) {
  std::future<void> running;
  std::future<void> waiting;
  std::promise<void> started;
  std::promise<void> go_on;
  std::atomic<bool> finished = false;
  auto pool = std::make_unique<ThreadPool>(1);
  running = submit(*pool, [&] {
    started.set_value();
    go_on.get_future().wait();
    finished = true;
  });
  waiting = submit(*pool, [] { FAIL() << "a dropped job ran"; });
  started.get_future().wait();
  std::thread destroyer([&] { pool.reset(); });
  EXPECT_THROW(waiting.get(), std::future_error) << "dropped as soon as the destruction begins";
  go_on.set_value();
  destroyer.join();
  EXPECT_TRUE(finished);
  EXPECT_NO_THROW(running.get());
}

// How many threads a large parallel_for is run on.
std::size_t threads_of_parallel_for() {
  std::mutex mutex;
  std::set<std::thread::id> ids;
  at::parallel_for(0, 64, 1, [&](std::int64_t, std::int64_t) {
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  return ids.size();
}

TEST(ThreadPool, OperationsInsideAJobAreSerial) {
  at::set_num_threads(4);
  ASSERT_EQ(threads_of_parallel_for(), 4U) << "outside a job";
  ThreadPool pool(2);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(submit(pool, [] { return threads_of_parallel_for(); }).get(), 1U);
    EXPECT_EQ(submit(pool, [] { return omp_get_max_threads(); }).get(), 1);
    // libtorch's own copy of the setting.
    EXPECT_EQ(submit(pool, [] { return at::get_num_threads(); }).get(), 1);
  }
  const double sum = submit(pool, [] { return at::ones({1 << 20}).sum().item<double>(); }).get();
  EXPECT_EQ(sum, 1 << 20);
  EXPECT_EQ(threads_of_parallel_for(), 4U) << "outside a job, afterwards";
}

TEST(ThreadPool, AForkedProcessMayDestroyItAndGetsNoWorkDone) {
  auto pool = std::make_unique<ThreadPool>(3);
  submit(*pool, [] {}).get();
  EXPECT_EQ(::tte::testing::status_of_fork([&] {
              bool refused = false;
              try {
                pool->post([] {});
              } catch (const DeviceError&) {
                refused = true;
              }
              pool.reset();
              return refused;
            }),
            0);
  EXPECT_EQ(submit(*pool, [] { return 3; }).get(), 3) << "the parent's goes on";
}

}  // namespace
}  // namespace tte::base
