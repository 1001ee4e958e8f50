// Bounds the tokens that a sequence spends between its thinking tags.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tte::engine {

// Watches for the tags' token ids, in the prompt and in what is generated. Once `limit` tokens have been
// generated inside the tags, the ids of the closing tag are forced (what is left of it, if the model has
// begun to write it). A tag that the model opens again afterwards is closed at once.
class ThinkBudget {
 public:
  // No limit: nothing is ever forced. With one, both tags must have ids.
  ThinkBudget(std::optional<int> limit, std::vector<std::int64_t> open, std::vector<std::int64_t> close,
              std::span<const std::int64_t> prompt);

  // The id that must come next, if any.
  [[nodiscard]] std::optional<std::int64_t> forced() const;
  void accept(std::int64_t id);
  [[nodiscard]] bool thinking() const { return thinking_; }

 private:
  void read(std::int64_t id);
  [[nodiscard]] bool ends_with(const std::vector<std::int64_t>& tag) const;

  std::optional<int> limit_;
  std::vector<std::int64_t> open_, close_;
  std::vector<std::int64_t> tail_;  // The last tokens, as many as the longer tag has; none of a finished tag.
  bool thinking_ = false;
  int spent_ = 0;
};

}  // namespace tte::engine
