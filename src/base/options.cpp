#include "tte/options.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/printable.h"
#include "base/threads.h"
#include "tte/error.h"

namespace tte {
namespace {

template <typename T>
void check_at_least(std::string_view name, T value, T least) {
  if (value < least) throw InputError(fmt::format("{} is {}: it must be at least {}.", name, value, least));
}

void check_threads(std::string_view name, int value) {
  check_at_least(name, value, 0);
  if (const int most = base::most_threads(); value > most) {
    throw InputError(fmt::format("{} is {}: it must be at most {} on this machine.", name, value, most));
  }
}

// Comparisons are written so that NaN fails them.
void check_fraction(std::string_view name, const std::optional<double>& value) {
  if (value && !(*value >= 0.0 && *value <= 1.0)) {
    throw InputError(fmt::format("{} is {}: it must be between 0 and 1.", name, *value));
  }
}

bool is_device(std::string_view device) {
  if (device == "auto" || device == "cpu" || device == "cuda") return true;
  if (!device.starts_with("cuda:")) return false;
  const std::string_view index = device.substr(5);
  return !index.empty() && index.size() <= 3 &&
         std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

void BackendOptions::validate() const {
  if (!is_device(device)) {
    throw InputError(fmt::format("device is \"{}\": it must be \"auto\", \"cpu\", \"cuda\" or \"cuda:N\".",
                                 base::printable(device, 40)));
  }
  check_threads("threads", threads);
  check_threads("media_threads", media_threads);
  check_at_least("state_bytes", state_bytes, std::int64_t{0});
  if (max_step_tokens) check_at_least("max_step_tokens", *max_step_tokens, 1);
  check_at_least("max_running", max_running, 1);
  check_at_least("vision_cache_bytes", vision_cache_bytes, std::int64_t{0});
}

void GenerateOptions::validate() const {
  if (max_new_tokens) check_at_least("max_new_tokens", *max_new_tokens, 1);
  check_at_least("min_new_tokens", min_new_tokens, 0);
  if (max_new_tokens && min_new_tokens > *max_new_tokens) {
    throw InputError(fmt::format("min_new_tokens is {}: it must be at most max_new_tokens, which is {}.",
                                 min_new_tokens, *max_new_tokens));
  }
  if (temperature && !(*temperature >= 0.0 && std::isfinite(*temperature))) {
    throw InputError(
        fmt::format("temperature is {}: it must be 0 (greedy) or a positive finite number.", *temperature));
  }
  if (top_k) check_at_least("top_k", *top_k, 0);
  check_fraction("top_p", top_p);
  check_fraction("min_p", min_p);
  if (repetition_penalty && !(*repetition_penalty > 0.0 && std::isfinite(*repetition_penalty))) {
    throw InputError(fmt::format("repetition_penalty is {}: it must be a positive finite number (1 is off).",
                                 *repetition_penalty));
  }
  for (std::size_t i = 0; i < stop.size(); ++i) {
    if (stop[i].empty()) {
      throw InputError(fmt::format("stop[{}] is empty: a stop string must have at least one character.", i));
    }
  }
  for (std::size_t i = 0; i < stop_token_ids.size(); ++i) {
    check_at_least(fmt::format("stop_token_ids[{}]", i), stop_token_ids[i], std::int64_t{0});
  }
  if (max_think_tokens) check_at_least("max_think_tokens", *max_think_tokens, 0);
}

}  // namespace tte
