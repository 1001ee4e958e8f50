#include "base/threads.h"

#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <pthread.h>
#include <sys/mman.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <latch>
#include <new>
#include <string_view>
#include <thread>
#include <vector>

#include "base/scratch.h"

namespace tte::base {
namespace {

// Bytes of stack that OpenMP gives a thread, as its environment says it; 0: the system's own.
std::size_t openmp_stack() {
  for (const char* name : {"OMP_STACKSIZE", "GOMP_STACKSIZE"}) {
    const char* value =
        std::getenv(name);  // NOLINT(concurrency-mt-unsafe): the environment is the program's.
    if (value == nullptr) continue;
    std::string_view text = value;
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    std::size_t size = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (code != std::errc()) continue;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    constexpr std::string_view kUnits = "BKMG";
    const std::size_t unit =
        text.empty() ? 1
                     : kUnits.find(static_cast<char>(text.front() & ~0x20));  // In either case of letters.
    if (unit != std::string_view::npos) return size << (10 * unit);
  }
  return 0;
}

// Bytes that libraries keep for a thread, in whole pages where it has no arena of its own; with much to spare.
constexpr std::size_t kKeptByAThread = std::size_t{1} << 20;

// Whether there is so much address space. Not by malloc, which may have it already, for other threads than new ones.
bool can_map(std::size_t bytes) {
  void* const space = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return false;
  munmap(space, bytes);
  return true;
}

struct Trial {
  explicit Trial(int count) : allocated(count) {}
  std::latch allocated;
  std::latch end{1};
};

void* wait_in(void* trial) {
  // The C library now takes an arena for this thread: address space that what comes after cannot have.
  void* volatile block = std::malloc(64);  // Volatile, or the compiler leaves both calls out.
  std::free(block);
  static_cast<Trial*>(trial)->allocated.count_down();
  static_cast<Trial*>(trial)->end.wait();
  return nullptr;
}

// Whether so many threads can be there together, beside those that are. Their arenas and stacks are kept by the C
// library, and are the first to be taken by the threads that are made next.
bool can_make(int count, std::size_t stack) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  if (stack > 0) pthread_attr_setstacksize(&attributes, stack);
  std::vector<pthread_t> threads;
  threads.reserve(static_cast<std::size_t>(count));
  Trial trial(count);
  bool made = true;
  while (made && std::ssize(threads) < count) {
    pthread_t thread{};
    made = pthread_create(&thread, &attributes, &wait_in, &trial) == 0;
    if (made) threads.push_back(thread);
  }
  if (made) {
    trial.allocated.wait();
    made = can_map(static_cast<std::size_t>(count) * kKeptByAThread);
  }
  trial.end.count_down();
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return made;
}

}  // namespace

void set_operation_threads([[maybe_unused]] int threads) {
  // libtorch sets a thread's OpenMP team size at its first parallel_for, which would undo ours: both copies
  // of that one-time initialisation (libtorch's and the one inlined here) have to come first.
  at::get_num_threads();
  at::internal::lazy_init_num_threads();
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

bool make_operation_threads() {
  thread_local int made = 1;
  const int wanted = at::get_num_threads();
  if (wanted <= made || at::in_parallel_region()) return true;
  if (!can_make(wanted - 1, openmp_stack())) return false;
  at::parallel_for(0, wanted, 1, [](std::int64_t, std::int64_t) { touch_thread_locals(); });
  made = wanted;
  return true;
}

void touch_thread_locals() {
  try {
    const c10::InferenceMode inference;
    at::ones({1}).add_(1);
    scratch(1);              // And with it what this library keeps.
    throw std::bad_alloc();  // What exceptions keep, too.
  } catch (...) {            // What is there by now is complete.
  }
}

void check_room_for(int threads) {
  if (!can_make(threads, 0)) throw std::bad_alloc();
}

OneThread::OneThread() : before_(at::get_num_threads()) {
  set_operation_threads(1);
}

OneThread::~OneThread() {
  set_operation_threads(before_);
}

AvailableThreads::AvailableThreads() {
  if (!make_operation_threads()) alone_.emplace();
}

int most_threads() {
  return std::max(64, 4 * static_cast<int>(std::thread::hardware_concurrency()));
}

int media_threads(int wanted) {
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 4);
}

}  // namespace tte::base
