#include "call.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace tte::python {
namespace {

// All under the interpreter's lock.
int running = 0;
std::optional<std::thread::id> ender;  // The thread that ends the interpreter, once it does.
pid_t owner = 0;                       // The process that made the first call.

// The interpreter goes without the calls that still run: no lock is needed to read it, and `ender` stands then.
std::atomic<bool> abandoned = false;

constexpr auto kLongestWait = std::chrono::seconds(30);

}  // namespace

// An interpreter that is gone ends the threads that come back to it, in destructors too, and with them the
// process: they wait here for its end instead.
void stay_away_if_abandoned() {
  while (abandoned && RunningCall::must_end()) std::this_thread::sleep_for(kLongestWait);
}

RunningCall::Back::~Back() {
  stay_away_if_abandoned();
}

RunningCall::Counted::Counted() {
  if (owner == 0) owner = getpid();
  if (owner != getpid()) {
    throw DeviceError(
        "tte was used before this process was forked, and its threads are not here: start processes with "
        "multiprocessing.get_context(\"spawn\"), or fork before the first model is loaded.");
  }
  if (must_end()) throw CancelledError("The interpreter ends: no call can begin.");
  ++running;
}

RunningCall::Counted::~Counted() {
  --running;
}

// The ending thread itself may still call: what was registered with atexit before tte comes after this.
bool RunningCall::must_end() {
  return ender && *ender != std::this_thread::get_id();
}

WithoutLock::WithoutLock() {
  if (RunningCall::must_end()) return;  // Nobody waits any more for this thread to come back.
  ++running;
  release_.emplace();
}

WithoutLock::~WithoutLock() {
  if (!release_) return;
  release_.reset();
  --running;
}

void wait_for_calls() {
  ender = std::this_thread::get_id();
  const auto until = std::chrono::steady_clock::now() + kLongestWait;
  while (running > 0 && owner == getpid() && std::chrono::steady_clock::now() < until) {
    const py::gil_scoped_release release;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  abandoned = running > 0 && owner == getpid();
}

}  // namespace tte::python
