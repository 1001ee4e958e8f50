// Where the visuals of a prompt stand among its tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "models/prompt.h"

namespace tte::engine {

class VisualRows {
 public:
  explicit VisualRows(const models::Prompt& prompt);

  // The visual tokens among tokens [begin, end) of the prompt, as a range of ordinals over all visual tokens.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> ordinals(std::int64_t begin, std::int64_t end) const;
  [[nodiscard]] std::int64_t row(std::int64_t ordinal) const {
    return rows_[static_cast<std::size_t>(ordinal)];
  }
  // The visual that a visual token belongs to, and the first ordinal of a visual.
  [[nodiscard]] std::size_t visual_of(std::int64_t ordinal) const;
  [[nodiscard]] std::int64_t first_ordinal(std::size_t visual) const { return starts_[visual]; }
  [[nodiscard]] std::int64_t count(std::size_t visual) const { return starts_[visual + 1] - starts_[visual]; }
  [[nodiscard]] std::int64_t last_row(std::size_t visual) const { return row(starts_[visual + 1] - 1); }

 private:
  std::vector<std::int64_t> rows_;    // Token indices of visual tokens.
  std::vector<std::int64_t> starts_;  // [visuals + 1], ordinals.
};

}  // namespace tte::engine
