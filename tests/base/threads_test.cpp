#include "base/threads.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

namespace tte::base {
namespace {

int threads_of(const std::function<void()>& first) {
  int threads = 0;
  std::thread([&] {
    first();
    threads = at::get_num_threads();
  }).join();
  return threads;
}

TEST(Threads, AreSetForTheCallingThreadOnly) {
  const int before = at::get_num_threads();
  EXPECT_EQ(threads_of([&] { set_operation_threads(before + 3); }), before + 3);
  EXPECT_EQ(at::get_num_threads(), before);
  EXPECT_EQ(threads_of([] {}), before) << "a thread that starts later";
}

TEST(Threads, AtLeast64MayBeAskedFor) {
  EXPECT_GE(most_threads(), 64);
  EXPECT_GE(most_threads(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace tte::base
