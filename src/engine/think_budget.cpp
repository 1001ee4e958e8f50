#include "engine/think_budget.h"

#include <algorithm>
#include <utility>

namespace tte::engine {

ThinkBudget::ThinkBudget(std::optional<int> limit, std::vector<std::int64_t> open,
                         std::vector<std::int64_t> close, std::span<const std::int64_t> prompt)
    : limit_(limit), open_(std::move(open)), close_(std::move(close)) {
  if (!limit_) return;
  for (const std::int64_t id : prompt) read(id);
}

std::optional<std::int64_t> ThinkBudget::forced() const {
  if (!thinking_ || spent_ < *limit_) return std::nullopt;
  for (std::size_t size = std::min(tail_.size(), close_.size() - 1); size > 0; --size) {
    if (std::equal(close_.begin(), close_.begin() + static_cast<std::ptrdiff_t>(size),
                   tail_.end() - static_cast<std::ptrdiff_t>(size))) {
      return close_[size];
    }
  }
  return close_.front();
}

void ThinkBudget::accept(std::int64_t id) {
  if (!limit_) return;
  if (thinking_) ++spent_;
  read(id);
}

void ThinkBudget::read(std::int64_t id) {
  tail_.push_back(id);
  if (ends_with(thinking_ ? close_ : open_)) {
    thinking_ = !thinking_;
    tail_.clear();
  } else if (tail_.size() > std::max(open_.size(), close_.size())) {
    tail_.erase(tail_.begin());
  }
}

bool ThinkBudget::ends_with(const std::vector<std::int64_t>& tag) const {
  return tail_.size() >= tag.size() && std::equal(tag.rbegin(), tag.rend(), tail_.rbegin());
}

}  // namespace tte::engine
