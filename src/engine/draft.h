// Guesses what sequences write next with a small model: speculative decoding by a draft.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/guess_length.h"
#include "models/model.h"

namespace tte::engine {

class DraftReader;
class Sequence;

// A model that has the same tokens as another, its target, and guesses for all of the target's sequences at a time
// which tokens follow. Its states take room from the target's. Used by one thread at a time.
class Draft {
 public:
  // States of both models must be cuttable(). At most `most` tokens are guessed of a sequence in one step.
  Draft(std::shared_ptr<const models::Model> model, std::shared_ptr<const models::Model> target,
        std::int64_t most);

  // A sequence that is to be guessed on, by its reader, and what is guessed.
  struct Wish {
    Sequence* sequence = nullptr;
    DraftReader* reader = nullptr;
    std::int64_t most = 0;
    std::vector<std::int64_t> guesses = {};
  };
  // Reads up to `tokens` tokens of what the wishes' readers have not read yet, then guesses for those that have read
  // all. The readers are its own. Does not throw: where anything fails, nothing is guessed any more.
  void guess(std::vector<Wish>& wishes, std::int64_t tokens);

 private:
  friend class DraftReader;
  // Takes room for so many bytes more from the target's; false where there is none.
  bool hold(std::int64_t bytes);
  void release(std::int64_t bytes);
  // Whether the next `count` tokens that it reads of the sequence are in its model's vocabulary, which may have less
  // padding than the target's.
  [[nodiscard]] bool knows(const Wish& wish, std::int64_t count) const;
  void read(std::span<Wish* const> wishes, std::vector<std::int64_t> counts);

  std::shared_ptr<const models::Model> model_, target_;
  std::int64_t most_;
  std::int64_t held_ = 0;                           // Bytes.
  std::unique_ptr<models::SequenceState> ballast_;  // An empty state of the target that has their room.
};

// What a draft has read of one sequence: the text of its prompt, and what was written.
class DraftReader {
 public:
  DraftReader(std::shared_ptr<Draft> draft, const models::Prompt& prompt);
  ~DraftReader() { forget(); }
  DraftReader(const DraftReader&) = delete;
  DraftReader& operator=(const DraftReader&) = delete;

  [[nodiscard]] Draft& draft() const { return *draft_; }
  // How many tokens it would guess; 0: it has stopped.
  [[nodiscard]] std::int64_t most() const;
  void judge(std::int64_t guessed, std::int64_t right) { length_.judge(guessed, right); }
  // Forgets all but the first `length` tokens of the sequence: the others were wrong guesses.
  void keep(std::int64_t length);
  // Gives its room back, and guesses no more. False where it had none.
  bool stop();

 private:
  friend class Draft;
  void forget();
  bool reserve(std::int64_t tokens);
  // What it reads as its token `index`, and how many it has of the sequence's first `length`.
  [[nodiscard]] std::int64_t source(std::int64_t index) const;
  [[nodiscard]] std::int64_t count(std::int64_t length) const;

  std::shared_ptr<Draft> draft_;
  std::vector<std::int64_t> text_;  // Where the prompt's text tokens stand; empty where all of them are text.
  std::int64_t prompt_tokens_;
  std::unique_ptr<models::SequenceState> state_;
  std::int64_t bytes_ = 0;  // Held for `state_`.
  GuessLength length_;
  bool stopped_ = false;
};

}  // namespace tte::engine
