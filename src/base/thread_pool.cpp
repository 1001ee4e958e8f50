#include "base/thread_pool.h"

#include <fmt/core.h>

#include <exception>
#include <utility>

#include "base/logging.h"
#include "base/threads.h"
#include "tte/error.h"

namespace tte::base {
ThreadPool::ThreadPool(int threads) {
  if (threads < 1)
    throw InputError(fmt::format("A thread pool of {} threads: it must have at least one.", threads));
  threads_.reserve(static_cast<std::size_t>(threads));
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([&state = *state_] { run(state); });
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  if (!process_.elsewhere()) {
    stop();
    return;
  }
  // Destroying a condition variable waits for those who wait for it, and they will never leave.
  static_cast<void>(state_.release());
  for (auto& thread : threads_) thread.detach();
}

void ThreadPool::stop() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    dropped.swap(state_->jobs);
  }
  state_->ready.notify_all();
  dropped.clear();  // Who waits for these learns it now, not when the running jobs end.
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void ThreadPool::post(std::function<void()> job) {
  process_.check();
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopping) return;  // Posted by a job that still runs: dropped like those that wait.
    state_->jobs.push_back(std::move(job));
  }
  state_->ready.notify_one();
}

void ThreadPool::run(State& state) {
  set_operation_threads(1);
  while (true) {
    std::function<void()> job;
    {
      std::unique_lock lock(state.mutex);
      state.ready.wait(lock, [&] { return state.stopping || !state.jobs.empty(); });
      if (state.stopping) return;
      job = std::move(state.jobs.front());
      state.jobs.pop_front();
    }
    try {
      job();
    } catch (const std::exception& error) {
      log().error("A job of the thread pool failed: {}", error.what());
    } catch (...) {
      log().error("A job of the thread pool failed with an exception of unknown type.");
    }
  }
}

}  // namespace tte::base
