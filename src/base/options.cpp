#include "tte/options.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "base/printable.h"
#include "base/split.h"
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

// NaN is in no range.
template <typename T>
void check_in_range(std::string_view name, const std::optional<T>& value, T least, T most) {
  if (!value || (*value >= least && *value <= most)) return;
  if (most < std::numeric_limits<T>::max()) {
    throw InputError(fmt::format("{} is {}: it must be between {} and {}.", name, *value, least, most));
  }
  check_at_least(name, *value, least);
}

bool is_gpu(std::string_view device) {
  if (!device.starts_with("cuda:")) return false;
  const std::string_view index = device.substr(5);
  return !index.empty() && index.size() <= 3 &&
         std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void check_device(const std::string& device) {
  if (device == "auto" || device == "cpu" || device == "cuda" || device == "cuda:all") return;
  const std::vector<std::string_view> gpus = base::split(device, ',');
  if (!std::all_of(gpus.begin(), gpus.end(), is_gpu)) {
    throw InputError(fmt::format(
        "device is \"{}\": it must be \"auto\", \"cpu\", \"cuda\", \"cuda:N\", several GPUs as in "
        "\"cuda:0,cuda:1\", or \"cuda:all\".",
        base::printable(device, 40)));
  }
  for (auto gpu = gpus.begin(); gpu != gpus.end(); ++gpu) {
    if (std::find(gpus.begin(), gpu, *gpu) == gpu) continue;
    throw InputError(fmt::format(
        "device names \"{}\" twice: a GPU has one replica of each model, or a part of one, so name it once.",
        *gpu));
  }
}

}  // namespace

void BackendOptions::validate() const {
  check_device(device);
  if (replicas) check_at_least("replicas", *replicas, 1);
  check_in_range("tensor_parallel", std::optional(tensor_parallel), 1, kMostParts);
  if (cuda_graphs && tensor_parallel > 1) {
    throw InputError(fmt::format(
        "cuda_graphs is on, but tensor_parallel is {}: steps of layers that several devices share are "
        "not recorded, so leave one of the two out.",
        tensor_parallel));
  }
  check_threads("threads", threads);
  check_threads("media_threads", media_threads);
  check_at_least("state_bytes", state_bytes, std::int64_t{0});
  if (max_step_tokens) check_at_least("max_step_tokens", *max_step_tokens, 1);
  check_at_least("max_running", max_running, 1);
  check_in_range("prompt_lookup_tokens", std::optional(prompt_lookup_tokens), 0, kMostGuesses);
  check_at_least("vision_cache_bytes", vision_cache_bytes, std::int64_t{0});
}

void MediaLimits::validate() const {
  static constexpr std::int64_t kMost = std::int64_t{1} << 40;
  const auto check = [](std::string_view name, std::int64_t value) {
    if (value < 1 || value > kMost) {
      throw InputError(fmt::format("{} is {}: it must be from 1 to {}.", name, value, kMost));
    }
  };
  check("max_pixels", max_pixels);
  check("max_file_bytes", max_file_bytes);
  check("max_item_bytes", max_item_bytes);
  check("max_item_pixels", max_item_pixels);
}

void GenerateOptions::validate() const {
  numbers([this](const auto& number) {
    check_in_range(number.name, this->*number.member, number.least, number.most);
  });
  if (max_new_tokens && min_new_tokens && *min_new_tokens > *max_new_tokens) {
    throw InputError(fmt::format("min_new_tokens is {}: it must be at most max_new_tokens, which is {}.",
                                 *min_new_tokens, *max_new_tokens));
  }
  for (std::size_t i = 0; i < stop.size(); ++i) {
    if (stop[i].empty()) {
      throw InputError(fmt::format("stop[{}] is empty: a stop string must have at least one character.", i));
    }
  }
  for (std::size_t i = 0; i < stop_token_ids.size(); ++i) {
    check_at_least(fmt::format("stop_token_ids[{}]", i), stop_token_ids[i], std::int64_t{0});
  }
}

}  // namespace tte
