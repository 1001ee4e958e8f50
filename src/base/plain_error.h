// Exceptions of libraries in tte's own words.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace c10 {
class Error;
}

namespace tte::base {

// Whether an error of ATen is of memory that ran out: its allocator for the CPU throws no type of its own.
bool is_out_of_memory(const c10::Error& error);

// What memory that ran out leads to: `where` (an item, a folder) ran out of it.
//
// std::bad_alloc and what ATen's allocators throw become an OutOfMemoryError that says how much was wanted,
// if that is known, and `remedy`; threads that the system does not give become a DeviceError, and other
// errors of ATen an Error without their backtrace. All begin with `where`, if it is not empty. Everything else,
// tte's own errors among it, stays as it is.
std::exception_ptr plain_error(const std::exception_ptr& error, std::string_view where,
                               std::string_view remedy);

// The same for an error that is handed out: tte's own begin with `name` as well, but for CancelledError.
std::exception_ptr named_error(const std::exception_ptr& error, std::string_view name,
                               std::string_view remedy);

// Holds an exception of a caller's callback, which is handed out as it is, without a name.
struct AsItIs {
  std::exception_ptr error;
};

// Runs call(); what it throws is handed out with the name.
template <typename F>
auto with_name(std::string_view name, std::string_view remedy, F&& call) -> decltype(call()) {
  try {
    return std::forward<F>(call)();
  } catch (const AsItIs& thrown) {
    std::rethrow_exception(thrown.error);
  } catch (...) {
    std::rethrow_exception(named_error(std::current_exception(), name, remedy));
  }
}

template <typename F>
auto as_it_is(F&& call) -> decltype(call()) {
  try {
    return std::forward<F>(call)();
  } catch (...) {
    throw AsItIs{std::current_exception()};
  }
}

// Runs call(); what it throws comes out as plain_error() has it.
template <typename F>
auto in_plain_words(std::string_view where, std::string_view remedy, F&& call) -> decltype(call()) {
  try {
    return std::forward<F>(call)();
  } catch (...) {
    std::rethrow_exception(plain_error(std::current_exception(), where, remedy));
  }
}

}  // namespace tte::base
