// The loop of one call over a list of items: a bounded window of items in flight, events from other threads,
// and what callers may do to a call while it runs (cancel, poll, progress).
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/replicas.h"
#include "base/plain_error.h"
#include "base/process_mark.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "tte/input.h"
#include "tte/options.h"

namespace tte::api {

// What to do about an item that wants more memory than there is.
inline constexpr std::string_view kLessOfAnItem =
    "give the item fewer or smaller images or frames or less text, or lower max_in_flight, or the backend's "
    "media_threads, max_running, max_step_tokens or state_bytes";

// Everything below happens on the calling thread, but for the jobs given to prepare(): steps of an item
// follow one another as events, so that an item needs no lock and a callback of the user never meets another
// one. The threads that deliver events own what they touch (Shared), so that a call may leave at any moment,
// and never run what belongs to the user.
class Call {
 public:
  Call(const CallOptions& options, std::size_t items, base::ThreadPool& pool, int window);
  ~Call();  // Stops what is in flight; no callback of the user runs afterwards.
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Calls start(i) for every item in order, as places become free, and returns when all have finished or
  // failed. Throws the first error of an item (OnError::kThrow), whatever a callback threw, and
  // CancelledError; where waiting would never end, an Error on the engine's own thread and a DeviceError in a
  // process that a callback forked.
  void run(const std::function<void(std::size_t)>& start);

  // Runs job() on the media pool, then then(result, seconds). `job` may outlive the call: it owns what it uses.
  template <typename T>
  void prepare(std::size_t item, std::function<T()> job, std::function<void(T, double)> then);

  // Submits a request; then(result) follows. Its cancel, caller and on_done are the call's.
  // Whatever answers requests as an engine does is one.
  template <typename Result, typename Engine, typename Request>
  void submit(std::size_t item, Engine& engine, Request request, std::function<void(Result)> then);

  // Called with each item that failed (OnError::kSkip), so that what it held can go.
  std::function<void(std::size_t)> on_failed;
  // The name of an item: errors of its own are handed out with it (but for those of callbacks), so whatever
  // throws them need not know it.
  std::function<std::string(std::size_t)> name_of = [](std::size_t item) {
    return fmt::format("item {}", item);
  };

  // Set as soon as the call is cancelled or left: for jobs, which may outlive it.
  [[nodiscard]] const CancelToken& stopped() const { return shared_->stop; }

  // Bytes that the item holds until it finishes.
  void reserve_bytes(std::size_t item, std::int64_t bytes);
  // The replica that runs all requests of the item, until it finishes: chosen by the prompt of the first.
  [[nodiscard]] std::size_t replica(std::size_t item, Router& router, const models::Prompt& prompt);
  void finish(std::size_t item);

  // GenerateRequest::on_token of an item: on_token(id, text) follows on the calling thread, for all tokens that
  // have come together at once (CallOptions::around_tokens). Once on_token() has answered false the engine is
  // told to stop, which it does with its next token, and on_token() is not called again.
  [[nodiscard]] std::function<OnToken(std::int64_t, const std::string&)> tokens(
      std::size_t item, std::function<bool(std::int64_t, const std::string&)> on_token);

  // Likewise for an item whose tokens nobody wants, but for the first.
  [[nodiscard]] std::function<OnToken(std::int64_t, const std::string&)> first_token(
      std::size_t item, std::function<void()> action);

  [[nodiscard]] const std::vector<ItemError>& errors() const { return errors_; }
  [[nodiscard]] bool failed(std::size_t item) const { return state_[item] == State::kFailed; }

 private:
  struct Event {
    std::size_t item;
    std::function<void()> action;
    bool token = false;
  };
  // An event is made before it is needed: when it comes there may be no memory for it.
  using Events = std::list<Event>;
  struct Shared {
    std::mutex mutex;
    std::condition_variable arrived;
    Events events;
    CancelToken stop;

    void post(Events& one) noexcept;  // Moves it here.
  };
  struct Listener {
    std::function<bool(std::int64_t, const std::string&)> on_token;
    std::shared_ptr<std::atomic<bool>> stopped;  // The engine's thread reads it.
  };
  enum class State : std::int8_t { kWaiting, kRunning, kFinished, kFailed };

  [[nodiscard]] bool may_start() const;
  void run_for_item(std::size_t item, const std::function<void()>& action);
  void fail(std::size_t item, const std::string& message);
  void end(std::size_t item, State state);
  void hand_over(std::size_t item, std::int64_t id, const std::string& text);
  static std::shared_ptr<Events> event_of(std::size_t item, std::function<void()> action, bool token = false);
  void handle(Events events);
  void check_caller();  // Cancellation and the caller's poll.
  Events wait_for_events();

  const CallOptions options_;
  const base::ProcessMark process_;
  base::ThreadPool& pool_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::vector<State> state_;
  std::vector<std::int64_t> held_;
  std::vector<ItemError> errors_;
  std::map<std::size_t, Listener> listeners_;  // Items whose text is being written.
  std::map<std::size_t, Place> places_;        // Items that a replica has requests of.
  std::size_t window_;
  std::size_t next_ = 0, running_ = 0, preparing_ = 0, ended_ = 0;
  std::int64_t held_bytes_ = 0;
  std::chrono::steady_clock::time_point last_poll_;
};

// Throws the error of an input that could not be made, which names it already.
void check_input(const Input& input);

// "item 3", or the name that the caller gave it.
std::string item_name(const Input& input, std::size_t index);

template <typename T>
void Call::prepare(std::size_t item, std::function<T()> job, std::function<void(T, double)> then) {
  struct Outcome {
    std::promise<T> result;
    double seconds = 0;
  };
  auto outcome = std::make_shared<Outcome>();
  // `this` is alive when the event runs: events run inside run() only.
  auto event = event_of(item, [this, item, outcome, then = std::move(then)] {
    --preparing_;
    if (state_[item] == State::kRunning) then(outcome->result.get_future().get(), outcome->seconds);
  });
  auto work = [shared = shared_, event, outcome, job = std::move(job)] {
    if (shared->stop.cancelled()) return;
    const auto begin = std::chrono::steady_clock::now();
    try {
      outcome->result.set_value(job());
    } catch (...) {
      outcome->result.set_exception(std::current_exception());
    }
    outcome->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    shared->post(*event);
  };
  pool_.post(std::move(work), shared_.get());  // The job holds it.
  ++preparing_;
}

template <typename Result, typename Engine, typename Request>
void Call::submit(std::size_t item, Engine& engine, Request request, std::function<void(Result)> then) {
  auto future = std::make_shared<std::future<Result>>();
  auto event = event_of(item, [this, item, future, then = std::move(then)] {
    // Another request of the item may have failed meanwhile.
    if (state_[item] == State::kRunning) then(future->get());
  });
  request.cancel = shared_->stop;
  request.caller = shared_.get();
  request.on_done = [shared = shared_, event] { shared->post(*event); };
  *future = engine.submit(std::move(request));
}

}  // namespace tte::api
