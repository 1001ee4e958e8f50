// A small pool for media work that runs beside the model.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/process_mark.h"

namespace tte::base {

// Runs jobs on `threads` threads (at least one, else InputError) in the order they came. The destructor
// finishes running jobs and drops waiting ones. In a forked process, which has none of the threads, it leaves
// everything as it is, and post() throws DeviceError. Inside a job at::parallel_for runs serially: the pool's
// threads are the parallelism.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // An exception of the job is logged.
  void post(std::function<void()> job);
  [[nodiscard]] int size() const { return static_cast<int>(threads_.size()); }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable ready;
    std::deque<std::function<void()>> jobs;
    bool stopping = false;
  };
  static void run(State& state);
  void stop();
  ProcessMark process_;
  std::unique_ptr<State> state_ = std::make_unique<State>();
  std::vector<std::thread> threads_;
};

}  // namespace tte::base
