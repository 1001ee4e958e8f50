// How far to guess ahead.
#pragma once

#include <cstdint>

namespace tte::engine {

// As many tokens are guessed as were right the last time, and some more.
class GuessLength {
 public:
  [[nodiscard]] std::int64_t next() const { return next_; }
  void judge(std::int64_t guessed, std::int64_t right) {
    if (guessed > 0) next_ = right == guessed ? 2 * guessed : right + 1;
  }

 private:
  std::int64_t next_ = 4;
};

}  // namespace tte::engine
