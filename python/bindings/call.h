// What all calls over a list of items share: signals, callbacks, and vectors that become arrays without a
// copy.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "bindings.h"
#include "tte/options.h"

namespace tte::python {

// Lets Ctrl-C out of a call that waits: Python's handlers run here, and what they raise ends the call.
inline void check_signals() {
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// The options that every call takes.
struct CommonArguments {
  OnError on_error = OnError::kThrow;
  std::function<void(std::size_t, std::size_t)> progress;
  CancelToken cancel;
  int max_in_flight = 0;
};

inline void apply(const CommonArguments& from, CallOptions& to) {
  to.on_error = from.on_error;
  to.progress = from.progress;
  to.cancel = from.cancel;
  to.max_in_flight = from.max_in_flight;
  to.poll = check_signals;
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
