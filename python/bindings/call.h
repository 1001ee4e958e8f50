// What all calls over a list of items share: signals, callbacks, and vectors that become arrays without a
// copy.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "bindings.h"
#include "tte/error.h"
#include "tte/options.h"

namespace tte::python {

// A call that runs without the interpreter's lock; made and destroyed with it held. While one lives, the
// interpreter does not end (see wait_for_calls): a thread that came back to an interpreter that is gone would
// take the process with it.
class RunningCall {
 public:
  // Whether the interpreter is about to end, and calls with it.
  static bool must_end();

 private:
  // One of the calls that are waited for.
  struct Counted {
    // Throws a DeviceError in a process that was forked from one that has used tte: threads are not
    // inherited, and waiting for them would never end.
    Counted();
    ~Counted();
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
  };

  // The moment before the lock is taken back.
  struct Back {
    ~Back();
  };

  Counted counted_;
  py::gil_scoped_release release_;  // After counted_, so that it is counted until the lock is back.
  Back back_;
};

// Does not return where the interpreter has gone without its calls; for what takes its lock while a call
// runs.
void stay_away_if_abandoned();

// A moment without the interpreter's lock that may not fail: for what waits for a step when it is destroyed.
class WithoutLock {
 public:
  WithoutLock();
  ~WithoutLock();
  WithoutLock(const WithoutLock&) = delete;
  WithoutLock& operator=(const WithoutLock&) = delete;

 private:
  std::optional<py::gil_scoped_release> release_;
};

// What holds a Python object whose last copy waits for a step of its engine, or for jobs of its threads.
template <typename T>
struct DeleteWithoutLock {
  void operator()(T* object) const {
    const WithoutLock unlocked;
    delete object;
  }
};
template <typename T>
using Holder = std::unique_ptr<T, DeleteWithoutLock<T>>;

// Ends all running calls and waits for them; for Python's atexit.
void wait_for_calls();

// Lets Ctrl-C out of a call that waits: Python's handlers run here, and what they raise ends the call.
inline void check_signals() {
  stay_away_if_abandoned();
  const py::gil_scoped_acquire gil;
  if (RunningCall::must_end()) throw CancelledError("The call was cancelled: the interpreter ends.");
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// A callback that Python may leave out. (pybind11 takes None for a std::function too, but types it as if it
// did not.)
template <typename Signature>
using Callback = std::optional<std::function<Signature>>;

template <typename Signature>
std::function<Signature> or_none(Callback<Signature> callback) {
  return callback ? std::move(*callback) : std::function<Signature>();
}

using Progress = Callback<void(std::size_t done, std::size_t total)>;

// The options that every call takes.
struct CommonArguments {
  OnError on_error = OnError::kThrow;
  Progress progress;
  std::optional<CancelToken> cancel;
  int max_in_flight = 0;
};

inline void apply(CommonArguments from, CallOptions& to) {
  to.on_error = from.on_error;
  to.progress = or_none(std::move(from.progress));
  if (from.cancel) to.cancel = std::move(*from.cancel);
  to.max_in_flight = from.max_in_flight;
  to.poll = check_signals;
  to.around_tokens = [](const std::function<void()>& hand_over) {
    stay_away_if_abandoned();
    const py::gil_scoped_acquire gil;  // Beside a busy thread each taking costs a switch interval.
    hand_over();
  };
}

// An array that owns the vector's memory.
template <typename T>
py::array_t<T> to_array(std::vector<T> values, std::vector<py::ssize_t> shape) {
  auto* owner = new std::vector<T>(std::move(values));
  const py::capsule free(owner, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(std::move(shape), owner->data(), free);
}

// A copy of a vector that is only lent.
inline py::array_t<float> copy_array(std::span<const float> values) {
  return to_array(std::vector<float>(values.begin(), values.end()),
                  {static_cast<py::ssize_t>(values.size())});
}

}  // namespace tte::python
