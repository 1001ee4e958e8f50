// Bounds the tokens that a sequence spends between its thinking tags.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace tte::engine {

// Watches the text that the tokens spell, because a vocabulary may merge a tag's ends with what stands beside
// it: in Qwen2's, "<think>" followed by a new line, or "</think>" after a full stop, have other ids than the
// tags alone. Once `limit` tokens have been generated after the opening tag, the closing tag is forced (what
// is left of it, if the text ends with its beginning). After the first closing tag the rest is the answer,
// and nothing is forced any more, whatever tags it quotes.
//
// Only the text after the prompt's last control token counts: the turn that the model continues. Tags
// in what a user wrote open nothing.
class ThinkBudget {
 public:
  // No limit: nothing is ever forced. With one, both tags must be given.
  ThinkBudget(std::optional<int> limit, std::string open, std::string close,
              std::shared_ptr<const text::Tokenizer> tokenizer, std::span<const std::int64_t> prompt);

  // The id that must come next, if any.
  [[nodiscard]] std::optional<std::int64_t> forced() const;
  void accept(std::int64_t id);
  [[nodiscard]] bool thinking() const { return state_ == State::kThinking; }

 private:
  enum class State { kBefore, kThinking, kAnswering };

  [[nodiscard]] bool is_control(std::int64_t id) const;
  void read(std::int64_t id, bool generated);
  void force_if_spent();
  [[nodiscard]] std::deque<std::int64_t> ids_of_rest() const;
  [[nodiscard]] std::optional<std::deque<std::int64_t>> spell(const std::string& rest) const;

  std::optional<int> limit_;
  std::string open_, close_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::string tail_;  // The last bytes, as many as could be the beginning of a tag.
  State state_ = State::kBefore;
  int spent_ = 0;
  std::deque<std::int64_t> forced_;  // What is left to write of the closing tag.
};

}  // namespace tte::engine
