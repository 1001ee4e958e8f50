// A small pool for media work that runs beside the model.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/process_mark.h"

namespace tte::base {

// Runs jobs. Those of one owner begin in the order they came, at most `threads` (at least one, else InputError) at a
// time; owners take turns, and there is a thread more than that: whatever takes long, another owner's next job finds
// one. The destructor finishes running jobs and drops waiting ones. In a forked process, which has none of the threads, it leaves
// everything as it is, and post() throws DeviceError. Inside a job at::parallel_for runs serially: the pool's
// threads are the parallelism.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // An exception of the job is logged. `owner` is whoever has the job done, and lives as long as its jobs.
  void post(std::function<void()> job, const void* owner = nullptr);
  // Jobs of one owner that run at a time.
  [[nodiscard]] int size() const { return state_->places; }

 private:
  struct Owner {
    const void* key;
    std::deque<std::function<void()>> jobs;
    int running = 0;
  };
  struct State {
    std::mutex mutex;
    std::condition_variable ready;
    std::list<Owner> owners;  // Of jobs that wait or run, in the order of their turns.
    int places = 0;
    bool stopping = false;

    // Whose job is next; the end of `owners`: nobody's.
    [[nodiscard]] std::list<Owner>::iterator next();
  };
  static void run(State& state);
  void stop();
  ProcessMark process_;
  std::unique_ptr<State> state_ = std::make_unique<State>();
  std::vector<std::thread> threads_;
};

}  // namespace tte::base
