#include "base/thread_pool.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <latch>
#include <memory>
#include <utility>

#include "base/logging.h"
#include "base/threads.h"
#include "tte/error.h"

namespace tte::base {
ThreadPool::ThreadPool(int threads) {
  if (threads < 1)
    throw InputError(fmt::format("A thread pool of {} threads: it must have at least one.", threads));
  state_->places = threads;
  threads_.reserve(static_cast<std::size_t>(threads) + 1);
  const auto ready = std::make_shared<std::latch>(threads + 1);
  try {
    for (int i = 0; i <= threads; ++i) {
      threads_.emplace_back([&state = *state_, ready] {
        set_operation_threads(1);
        touch_thread_locals();
        ready->count_down();
        run(state);
      });
    }
    ready->wait();
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
    for (Owner& owner : state_->owners) {
      dropped.insert(dropped.end(), std::make_move_iterator(owner.jobs.begin()),
                     std::make_move_iterator(owner.jobs.end()));
      owner.jobs.clear();
    }
  }
  state_->ready.notify_all();
  dropped.clear();  // Who waits for these learns it now, not when the running jobs end.
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

std::list<ThreadPool::Owner>::iterator ThreadPool::State::next() {
  return std::find_if(owners.begin(), owners.end(),
                      [this](const Owner& owner) { return !owner.jobs.empty() && owner.running < places; });
}

void ThreadPool::post(std::function<void()> job, const void* owner) {
  process_.check();
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopping) return;  // Posted by a job that still runs: dropped like those that wait.
    auto& owners = state_->owners;
    auto found = std::find_if(owners.begin(), owners.end(),
                              [owner](const Owner& known) { return known.key == owner; });
    if (found == owners.end()) found = owners.insert(owners.end(), Owner{owner, {}, 0});
    found->jobs.push_back(std::move(job));
  }
  state_->ready.notify_one();
}

void ThreadPool::run(State& state) {
  std::unique_lock lock(state.mutex);
  while (true) {
    auto owner = state.owners.end();
    state.ready.wait(lock, [&] { return state.stopping || (owner = state.next()) != state.owners.end(); });
    if (state.stopping) return;
    std::function<void()> job = std::move(owner->jobs.front());
    owner->jobs.pop_front();
    ++owner->running;
    state.owners.splice(state.owners.end(), state.owners, owner);
    lock.unlock();
    try {
      job();
    } catch (const std::exception& error) {
      log().error("A job of the thread pool failed: {}", error.what());
    } catch (...) {
      log().error("A job of the thread pool failed with an exception of unknown type.");
    }
    job = nullptr;  // Before its owner counts as done.
    lock.lock();
    if (--owner->running == 0 && owner->jobs.empty()) state.owners.erase(owner);
  }
}

}  // namespace tte::base
