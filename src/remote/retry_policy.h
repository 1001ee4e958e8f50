// How long to wait before another try.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>

namespace tte::remote {

struct RetryPolicy {
  double first = 0.5;   // Seconds before the first retry; each further one doubles it.
  double longest = 60;  // Seconds of any wait.
  std::uint64_t seed = 0;

  // Seconds before try number `retry` (from 1) of a request, its number among all. A random part of up to a half is
  // taken off, the same for the same seed and numbers; never less than the server `asked` for, never more than
  // `longest`.
  [[nodiscard]] double delay(int retry, std::uint64_t request, std::optional<double> asked) const;
};

// Seconds that a Retry-After header asks for, given as a number or as a date; nothing if it is neither.
std::optional<double> parse_retry_after(const std::string& value, std::time_t now);

}  // namespace tte::remote
