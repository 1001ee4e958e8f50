#include "base/threads.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <functional>
#include <thread>

#include "in_fork.h"

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

TEST(Threads, AreMadeBeforeTheyAreNeeded) {
  EXPECT_EQ(threads_of([] {
              set_operation_threads(5);
              EXPECT_TRUE(make_operation_threads());
            }),
            5);
}

TEST(Threads, OneThreadLastsForItsScope) {
  EXPECT_EQ(threads_of([] {
              set_operation_threads(3);
              const OneThread alone;
              EXPECT_EQ(at::get_num_threads(), 1);
              EXPECT_TRUE(make_operation_threads());
            }),
            3);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Bytes of address space that are taken.
rlim_t taken() {
  std::ifstream file("/proc/self/statm");
  rlim_t pages = 0;
  file >> pages;
  return pages * static_cast<rlim_t>(sysconf(_SC_PAGE_SIZE));
}

// OpenMP would end the process.
TEST(Threads, WithoutRoomForThemOperationsRunOnOne) {
  int status = -1;
  threads_of([&] {
    status = testing::status_of_fork([] {
      set_operation_threads(64);
      const rlimit tight{taken(), taken()};
      if (setrlimit(RLIMIT_AS, &tight) != 0 || make_operation_threads()) return false;
      int sum = 0;
      {
        const AvailableThreads alone;
        at::parallel_for(0, 1000, 1,
                         [&](std::int64_t begin, std::int64_t end) { sum += static_cast<int>(end - begin); });
      }
      return sum == 1000 && at::get_num_threads() == 64;
    });
  });
  EXPECT_EQ(status, 0);
}
#endif

TEST(Threads, AtLeast64MayBeAskedFor) {
  EXPECT_GE(most_threads(), 64);
  EXPECT_GE(most_threads(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace tte::base
