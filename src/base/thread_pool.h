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

// Runs jobs. The jobs of one owner begin in the order they came, and at most `threads` of them (at least one, else
// InputError) run at a time. Owners take turns. The pool has one thread more than `threads`, so that an owner's job
// finds a thread while another owner's jobs take long. The destructor waits for running jobs and drops waiting ones.
// A forked process has none of the threads: there the destructor leaves everything as it is, and post() throws
// DeviceError. Inside a job at::parallel_for runs serially: the pool's threads are the parallelism.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Logs what the job throws. `owner` lives as long as its jobs.
  void post(std::function<void()> job, const void* owner = nullptr);
  // How many jobs of one owner run at a time.
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
    std::list<Owner> owners;  // Those whose jobs wait or run, in the order of their turns.
    int places = 0;
    bool stopping = false;

    // The owner whose job is next; the end of `owners` if nobody has one.
    [[nodiscard]] std::list<Owner>::iterator next();
  };
  static void run(State& state);
  void stop();
  ProcessMark process_;
  std::unique_ptr<State> state_ = std::make_unique<State>();
  std::vector<std::thread> threads_;
};

}  // namespace tte::base
