#include "call.h"

#include <unistd.h>

#include <chrono>
#include <thread>

namespace tte::python {
namespace {

// All under the interpreter's lock.
int running = 0;
bool ending = false;
pid_t owner = 0;  // The process that made the first call.

constexpr auto kLongestWait = std::chrono::seconds(30);

}  // namespace

RunningCall::Counted::Counted() {
  if (owner == 0) owner = getpid();
  if (owner != getpid()) {
    throw DeviceError(
        "tte was used before this process was forked, and its threads are not here: start processes with "
        "multiprocessing.get_context(\"spawn\"), or fork before the first model is loaded.");
  }
  if (ending) throw CancelledError("The interpreter ends: no call can begin.");
  ++running;
}

RunningCall::Counted::~Counted() {
  --running;
}

bool RunningCall::must_end() {
  return ending;
}

void wait_for_calls() {
  ending = true;
  const auto until = std::chrono::steady_clock::now() + kLongestWait;
  while (running > 0 && owner == getpid() && std::chrono::steady_clock::now() < until) {
    const py::gil_scoped_release release;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace tte::python
