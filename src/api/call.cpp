#include "api/call.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::api {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How long a call may take to see a signal or a cancellation; asking costs Python its interpreter lock.
constexpr milliseconds kPollEvery{25};
// Pixels of all items in flight. A page of 1280 tokens has 24 MB of them.
constexpr std::int64_t kMaxHeldBytes = std::int64_t{1} << 30;

}  // namespace

std::string item_name(const Input& input, std::size_t index) {
  return input.name.empty() ? fmt::format("item {}", index) : base::printable(input.name, 80);
}

void Call::Shared::post(std::size_t item, std::function<void()> action) {
  {
    const std::lock_guard lock(mutex);
    events.push_back({item, std::move(action)});
  }
  arrived.notify_one();
}

void Call::Shared::wake() {
  {
    const std::lock_guard lock(mutex);
    woken = true;
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
  const std::lock_guard lock(shared_->callback_mutex);
  shared_->closed = true;
}

bool Call::may_start() const {
  if (next_ == state_.size() || running_ >= window_) return false;
  if (running_ == 0) return true;
  // Decoding runs a little ahead of the pool, not further: pixels wait in memory, files do not.
  const auto ahead = 2 * static_cast<std::size_t>(pool_.size()) + 2;
  return preparing_ < ahead && held_bytes_ < kMaxHeldBytes;
}

void Call::run(const std::function<void(std::size_t)>& start) {
  attend();
  while (ended_ < state_.size()) {
    while (may_start()) {
      const std::size_t item = next_++;
      state_[item] = State::kRunning;
      ++running_;
      perform(item, [&] { start(item); });
    }
    if (ended_ == state_.size()) break;
    for (Event& event : wait()) {
      perform(event.item, event.action);
      if (steady_clock::now() - last_poll_ > kPollEvery) attend();
    }
    attend();
  }
  attend();
}

std::deque<Call::Event> Call::wait() {
  std::deque<Event> events;
  std::unique_lock lock(shared_->mutex);
  shared_->arrived.wait_for(lock, kPollEvery, [&] { return shared_->woken || !shared_->events.empty(); });
  shared_->woken = false;
  events.swap(shared_->events);
  return events;
}

void Call::perform(std::size_t item, const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    if (options_.on_error == OnError::kThrow) throw;
    fail(item, error.what());
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
  held_bytes_ -= held_[item];
  held_[item] = 0;
  --running_;
  ++ended_;
  if (options_.progress) options_.progress(ended_, state_.size());
}

std::function<void()> Call::event(std::size_t item, std::function<void()> action) {
  return [this, shared = shared_, item, action = std::move(action)] {
    if (shared->stop.cancelled()) return;
    // `this` is alive when the event runs: events run inside run() only.
    shared->post(item, [this, item, action] {
      if (state_[item] == State::kRunning) action();
    });
  };
}

void Call::hold(std::size_t item, std::int64_t bytes) {
  if (state_[item] != State::kRunning) return;
  held_[item] += bytes;
  held_bytes_ += bytes;
}

void Call::attend() {
  {
    const std::lock_guard lock(shared_->callback_mutex);
    if (shared_->callback_error) std::rethrow_exception(shared_->callback_error);
  }
  if (options_.cancel.cancelled()) {
    throw CancelledError(fmt::format("The call was cancelled after {} of {} items.", ended_, state_.size()));
  }
  const auto now = steady_clock::now();
  if (options_.poll && now - last_poll_ >= kPollEvery) options_.poll();
  if (now - last_poll_ >= kPollEvery) last_poll_ = now;
}

std::function<engine::TokenAction(std::int64_t, const std::string&)> Call::guarded(
    std::function<bool(std::int64_t, const std::string&)> keep_going) const {
  return [shared = shared_, keep_going = std::move(keep_going)](std::int64_t id, const std::string& text) {
    const std::lock_guard lock(shared->callback_mutex);
    if (shared->closed || shared->callback_error) return engine::TokenAction::kStop;
    try {
      return keep_going(id, text) ? engine::TokenAction::kContinue : engine::TokenAction::kStop;
    } catch (...) {
      shared->callback_error = std::current_exception();
      shared->wake();
      return engine::TokenAction::kStop;
    }
  };
}

}  // namespace tte::api
