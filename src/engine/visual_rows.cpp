#include "engine/visual_rows.h"

#include <algorithm>

namespace tte::engine {

VisualRows::VisualRows(const models::Prompt& prompt) {
  if (prompt.visuals.empty()) return;
  for (std::size_t i = 0; i < prompt.kinds.size(); ++i) {
    if (prompt.kinds[i] != base::Modality::kText) rows_.push_back(static_cast<std::int64_t>(i));
  }
  starts_.push_back(0);
  for (const std::int64_t tokens : prompt.visual_tokens) starts_.push_back(starts_.back() + tokens);
}

std::pair<std::int64_t, std::int64_t> VisualRows::ordinals(std::int64_t begin, std::int64_t end) const {
  const auto first = std::lower_bound(rows_.begin(), rows_.end(), begin);
  const auto last = std::lower_bound(first, rows_.end(), end);
  return {first - rows_.begin(), last - rows_.begin()};
}

std::size_t VisualRows::visual_of(std::int64_t ordinal) const {
  return static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), ordinal) -
                                  starts_.begin()) -
         1;
}

}  // namespace tte::engine
