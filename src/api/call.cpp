#include "api/call.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>
#include <new>

#include "base/not_finite.h"
#include "base/printable.h"
#include "engine/executor.h"
#include "tte/error.h"
#include "tte/remote.h"

namespace tte::api {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How long a call may take to see a signal or a cancellation; asking costs Python its interpreter lock.
constexpr milliseconds kPollEvery{25};
// Pixels of all items in flight. A page of 1280 tokens has 24 MB of them.
constexpr std::int64_t kMaxHeldBytes = std::int64_t{1} << 30;
// Bytes of what a caller hands in as an item's error: more than any sentence has.
constexpr std::size_t kLongestError = 480;

}  // namespace

void check_input(const Input& input) {
  if (!input.error.empty())
    base::as_it_is([&] { throw InputError(base::printable(input.error, kLongestError)); });
}

std::string item_name(const Input& input, std::size_t index) {
  return input.name.empty() ? fmt::format("item {}", index) : base::printable(input.name, 80);
}

void Call::Shared::post(Events& one) noexcept {
  {
    const std::lock_guard lock(mutex);
    events.splice(events.end(), one);
  }
  arrived.notify_one();
}

Call::Call(const CallOptions& options, std::size_t items, base::ThreadPool& pool, int window)
    : options_(options),
      pool_(pool),
      state_(items, State::kWaiting),
      held_(items, 0),
      window_(
          static_cast<std::size_t>(options.max_in_flight > 0 ? options.max_in_flight : std::max(window, 1))),
      last_poll_(steady_clock::now()) {
  if (options.max_in_flight < 0) {
    throw InputError(fmt::format("max_in_flight is {}: it must be positive, or 0 for the default.",
                                 options.max_in_flight));
  }
}

Call::~Call() {
  shared_->stop.cancel();
}

bool Call::may_start() const {
  if (next_ == state_.size() || running_ >= window_) return false;
  if (running_ == 0) return true;
  // Decoding runs a little ahead of the pool, not further: pixels wait in memory, files do not.
  const auto ahead = 2 * static_cast<std::size_t>(pool_.size()) + 2;
  return preparing_ < ahead && held_bytes_ < kMaxHeldBytes;
}

void Call::run(const std::function<void(std::size_t)>& start) {
  if (engine::Executor::on_own_thread()) {
    throw Error(
        "A callback on the engine's thread may not wait for a model, which only that thread can run: hand "
        "the "
        "work to another thread.");
  }
  check_caller();
  while (ended_ < state_.size()) {
    while (may_start()) {
      const std::size_t item = next_++;
      state_[item] = State::kRunning;
      ++running_;
      run_for_item(item, [&] { start(item); });
    }
    if (ended_ == state_.size()) break;
    handle(wait_for_events());
    check_caller();
  }
  check_caller();
}

std::shared_ptr<Call::Events> Call::event_of(std::size_t item, std::function<void()> action, bool token) {
  auto one = std::make_shared<Events>();
  one->push_back({item, std::move(action), token});
  return one;
}

Call::Events Call::wait_for_events() {
  Events events;
  std::unique_lock lock(shared_->mutex);
  shared_->arrived.wait_for(lock, kPollEvery, [&] { return !shared_->events.empty(); });
  events.swap(shared_->events);
  return events;
}

void Call::handle(Events events) {
  for (auto event = events.begin(); event != events.end();) {
    if (!event->token) {
      run_for_item(event->item, event->action);
      ++event;
    } else {
      const auto end = std::find_if(event, events.end(), [](const Event& next) { return !next.token; });
      const auto all = [&] {
        for (; event != end; ++event) run_for_item(event->item, event->action);
      };
      options_.around_tokens ? options_.around_tokens(all) : all();
      if (event != end) throw Error("around_tokens has returned without calling hand_over: call it.");
    }
    if (steady_clock::now() - last_poll_ > kPollEvery) check_caller();
  }
}

void Call::run_for_item(std::size_t item, const std::function<void()>& action) {
  std::exception_ptr error;
  try {
    return action();
  } catch (const base::AsItIs& thrown) {
    error = thrown.error;
  } catch (...) {
    error = base::named_error(std::current_exception(), name_of(item), kLessOfAnItem);
  }
  if (options_.on_error == OnError::kThrow) std::rethrow_exception(error);
  try {
    std::rethrow_exception(error);
  } catch (const InputError& e) {
    fail(item, e.what());
  } catch (const OutOfMemoryError& e) {
    fail(item, e.what());
  } catch (const base::NotFiniteError& e) {
    fail(item, e.what());
  } catch (const RemoteError& e) {
    if (!e.of_item()) throw;
    fail(item, e.what());
  }
}

void Call::fail(std::size_t item, const std::string& message) {
  if (state_[item] != State::kRunning) return;
  errors_.push_back({item, message});
  if (on_failed) on_failed(item);
  end(item, State::kFailed);
}

void Call::finish(std::size_t item) {
  if (state_[item] == State::kRunning) end(item, State::kFinished);
}

void Call::end(std::size_t item, State state) {
  state_[item] = state;
  listeners_.erase(item);
  places_.erase(item);
  held_bytes_ -= held_[item];
  held_[item] = 0;
  --running_;
  ++ended_;
  if (options_.progress) base::as_it_is([&] { options_.progress(ended_, state_.size()); });
}

std::size_t Call::replica(std::size_t item, Router& router, const models::Prompt& prompt) {
  process_.check();  // A lock that was held at a fork is never given back.
  return places_.try_emplace(item, router, prompt).first->second.replica();
}

void Call::reserve_bytes(std::size_t item, std::int64_t bytes) {
  if (state_[item] != State::kRunning) return;
  held_[item] += bytes;
  held_bytes_ += bytes;
}

void Call::check_caller() {
  process_.check();
  if (options_.cancel.cancelled() && ended_ < state_.size()) {  // What is done is not lost.
    throw CancelledError(fmt::format("The call was cancelled after {} of {} items.", ended_, state_.size()));
  }
  const auto now = steady_clock::now();
  if (options_.poll && now - last_poll_ >= kPollEvery) options_.poll();
  if (now - last_poll_ >= kPollEvery) last_poll_ = now;
}

std::function<OnToken(std::int64_t, const std::string&)> Call::tokens(
    std::size_t item, std::function<bool(std::int64_t, const std::string&)> on_token) {
  auto stopped = std::make_shared<std::atomic<bool>>(false);
  listeners_[item] = {std::move(on_token), stopped};
  return [this, shared = shared_, item, stopped](std::int64_t id, const std::string& text) {
    if (*stopped || shared->stop.cancelled()) return OnToken::kStop;
    // `this` is alive when the event runs: events run inside run() only.
    shared->post(*event_of(
        item, [this, item, id, text] { hand_over(item, id, text); }, /*token=*/true));
    return OnToken::kContinue;
  };
}

std::function<OnToken(std::int64_t, const std::string&)> Call::first_token(std::size_t item,
                                                                           std::function<void()> action) {
  auto event = event_of(item, [this, item, action = std::move(action)] {
    if (state_[item] == State::kRunning) action();
  });
  return [shared = shared_, event](std::int64_t, const std::string&) {
    if (!event->empty()) shared->post(*event);
    return OnToken::kContinue;
  };
}

void Call::hand_over(std::size_t item, std::int64_t id, const std::string& text) {
  base::as_it_is([this] { process_.check(); });  // The callback before may have forked.
  const auto listener = listeners_.find(item);
  if (listener == listeners_.end() || *listener->second.stopped) return;
  if (!listener->second.on_token(id, text)) *listener->second.stopped = true;
}

}  // namespace tte::api
