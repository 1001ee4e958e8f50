#include "base/plain_error.h"

#include <c10/util/Exception.h>
#include <fmt/core.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/not_finite.h"
#include "base/printable.h"
#include "tte/error.h"
#include "tte/remote.h"

namespace tte::base {
namespace {

constexpr std::size_t kLongest = 300;

// "20.00 MiB" of "... Tried to allocate 20.00 MiB. GPU ...": both of ATen's allocators say it so.
std::string wanted(std::string_view message) {
  constexpr std::string_view kBefore = "to allocate ";
  const std::size_t at = message.find(kBefore);
  if (at == std::string_view::npos) return {};
  std::string_view amount = message.substr(at + kBefore.size(), 40);
  for (const std::string_view unit : {"bytes", "KiB", "MiB", "GiB"}) {
    if (const std::size_t end = amount.find(unit); end != std::string_view::npos) {
      return std::string(amount.substr(0, end + unit.size()));
    }
  }
  return {};
}

std::string begun(std::string_view where, const std::string& message) {
  return where.empty() ? message : fmt::format("{}: {}", where, message);
}

template <typename E>
std::exception_ptr made(std::string_view where, const std::string& message) {
  return std::make_exception_ptr(E(begun(where, message)));
}

std::exception_ptr out_of_memory(std::string_view where, std::string_view remedy, const std::string& amount) {
  return made<OutOfMemoryError>(
      where, amount.empty() ? fmt::format("memory ran out: {}.", remedy)
                            : fmt::format("memory ran out where {} were wanted: {}.", amount, remedy));
}

}  // namespace

bool is_out_of_memory(const c10::Error& error) {
  const std::string_view message = error.what_without_backtrace();
  // Where there is no memory for the message, it is cut.
  constexpr std::string_view kBegins = "[enforce fail at alloc_cpu.cpp";
  if (kBegins.starts_with(message)) return true;
  for (const char* words : {"can't allocate memory", "not enough memory", "alloc_cpu"}) {
    if (message.find(words) != std::string_view::npos) return true;
  }
  return false;
}

std::exception_ptr plain_error(const std::exception_ptr& error, std::string_view where,
                               std::string_view remedy) {
  try {
    std::rethrow_exception(error);
  } catch (const std::length_error&) {  // A size that no memory has.
    return out_of_memory(where, remedy, {});
  } catch (const std::bad_alloc&) {
    return out_of_memory(where, remedy, {});
  } catch (const c10::OutOfMemoryError& e) {
    return out_of_memory(where, remedy, wanted(e.what_without_backtrace()));
  } catch (const c10::Error& e) {
    const std::string_view message = e.what_without_backtrace();
    if (is_out_of_memory(e)) return out_of_memory(where, remedy, wanted(message));
    return made<Error>(where, printable(message, kLongest));
  } catch (const std::system_error& e) {
    if (e.code() != std::errc::resource_unavailable_try_again) return error;
    return made<DeviceError>(
        where,
        fmt::format(
            "the system gives no more threads ({}): lower threads and media_threads, or raise the limits of "
            "address space and processes (ulimit -v, ulimit -u).",
            e.what()));
  } catch (...) {
    return error;
  }
}

std::exception_ptr named_error(const std::exception_ptr& error, std::string_view name,
                               std::string_view remedy) {
  std::exception_ptr plain = plain_error(error, {}, remedy);
  try {
    std::rethrow_exception(plain);
  } catch (const InputError& e) {
    return made<InputError>(name, e.what());
  } catch (const NotFiniteError& e) {
    return made<NotFiniteError>(name, e.what());
  } catch (const ModelError& e) {
    return made<ModelError>(name, e.what());
  } catch (const OutOfMemoryError& e) {
    return made<OutOfMemoryError>(name, e.what());
  } catch (const DeviceError& e) {
    return made<DeviceError>(name, e.what());
  } catch (const RemoteError& e) {
    return std::make_exception_ptr(RemoteError(begun(name, e.what()), e.status(), e.of_item()));
  } catch (const CancelledError&) {
    return plain;
  } catch (const Error& e) {
    return made<Error>(name, e.what());
  } catch (...) {
    return plain;
  }
}

}  // namespace tte::base
