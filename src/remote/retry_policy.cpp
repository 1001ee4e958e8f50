#include "remote/retry_policy.h"

#include <curl/curl.h>

#include <algorithm>
#include <cmath>

namespace tte::remote {
namespace {

// splitmix64: one step of a well-mixed sequence.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

}  // namespace

double RetryPolicy::delay(int retry, std::uint64_t request, std::optional<double> asked) const {
  const std::uint64_t random = mixed(mixed(mixed(seed) ^ request) ^ static_cast<std::uint64_t>(retry));
  const double part = static_cast<double>(random >> 11) * 0x1p-53;  // [0, 1)
  const double full = first * std::exp2(std::min(retry - 1, 60));
  return std::min(longest, std::max(asked.value_or(0), full * (1 - part / 2)));
}

std::optional<double> parse_retry_after(const std::string& value, std::time_t now) {
  if (value.empty()) return std::nullopt;
  if (value.find_first_not_of("0123456789") == std::string::npos) {
    return value.size() > 9 ? 1e9 : std::stod(value);
  }
  const std::time_t date = curl_getdate(value.c_str(), nullptr);
  if (date < 0) return std::nullopt;
  return std::max(0.0, std::difftime(date, now));
}

}  // namespace tte::remote
