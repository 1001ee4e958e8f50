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
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(jobs_);
  }
  ready_.notify_all();
  dropped.clear();  // Who waits for these learns it now, not when the running jobs end.
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void ThreadPool::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;  // Posted by a job that still runs: dropped like those that wait.
    jobs_.push_back(std::move(job));
  }
  ready_.notify_one();
}

void ThreadPool::run() {
  set_operation_threads(1);
  while (true) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
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
