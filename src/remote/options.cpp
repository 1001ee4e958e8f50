#include <fmt/core.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "base/printable.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "remote/endpoint.h"
#include "remote/request.h"
#include "tte/error.h"
#include "tte/remote.h"

namespace tte {
namespace {

constexpr std::size_t kMostNameBytes = 1024;
constexpr double kMostSeconds = 1e7;

template <typename T>
void check(std::string_view name, T value, T least, T most) {
  if (value >= least && value <= most) return;
  throw InputError(fmt::format("{} is {}: it must be from {} to {}.", name, value, least, most));
}

void check_name(const std::string& model) {
  const bool plain = base::find_invalid(model) == std::string::npos &&
                     model.find_first_of(std::string_view("\0\r\n\t", 4)) == std::string::npos;
  if (model.empty() || !plain || model.size() > kMostNameBytes) {
    throw InputError(fmt::format("model is \"{}\": give the name under which the server has it, in one line.",
                                 base::printable(model, 80)));
  }
}

}  // namespace

void RemoteOptions::validate() const {
  (void)remote::parse_endpoint(base_url);
  (void)remote::find_key(*this);
  check_name(model);
  (void)remote::parse_extra(extra);
  check("max_concurrent", max_concurrent, 1, 256);
  check("media_threads", media_threads, 0, base::most_threads());
  media_limits.validate();
  check("max_retries", max_retries, 0, 100);
  check("retry_delay", retry_delay, 0.0, kMostSeconds);
  check("max_retry_delay", max_retry_delay, 0.0, kMostSeconds);
  constexpr double kLeast = 1e-3;
  check("connect_timeout", connect_timeout, kLeast, kMostSeconds);
  check("idle_timeout", idle_timeout, kLeast, kMostSeconds);
  check("total_timeout", total_timeout, kLeast, kMostSeconds);
  check("max_response_bytes", max_response_bytes, std::int64_t{1} << 10, std::int64_t{1} << 32);
}

}  // namespace tte
