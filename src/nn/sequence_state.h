// What a layer keeps of a sequence, as the engine sees it: something that has a length, can be given room,
// and can be forked.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tte::nn {

// What a sequence leaves behind in a model: a KV cache, a recurrent state, or both. Grows only through
// Model::forward; goes back to its pool when destroyed. Not thread-safe: one owner at a time.
class SequenceState {
 public:
  virtual ~SequenceState() = default;
  [[nodiscard]] virtual std::int64_t length() const = 0;
  // Bytes of the room that it has; what it shares with others counts in full.
  [[nodiscard]] virtual std::int64_t bytes() const = 0;
  // Makes room for `tokens` in all. False when the pool has none now.
  [[nodiscard]] virtual bool reserve(std::int64_t tokens) = 0;
  // Gives back the room beyond length(), as far as that needs no copy. Does not throw.
  virtual void trim() {}
  // Whether it can be cut, or forked at any length that it had, or, like a recurrent state, forked at its end only.
  [[nodiscard]] virtual bool cuttable() const { return true; }
  [[nodiscard]] bool can_fork(std::int64_t length) const {
    return length == this->length() || (cuttable() && length >= 0 && length < this->length());
  }
  // Forgets all but the first `length` tokens. For states that are cuttable(), and tokens of which nobody has a fork.
  virtual void cut(std::int64_t /*length*/) {}
  // How many of the layers of Model::keep_hidden(), in their order, it has the hidden states of all of its tokens for.
  [[nodiscard]] virtual std::size_t kept_layers() const { return 0; }
  // Whether the hidden states that go into layer `layer` are kept, and these: [length, hidden].
  [[nodiscard]] virtual bool keeps_hidden(std::int64_t /*layer*/) const { return false; }
  [[nodiscard]] virtual at::Tensor kept_hidden(std::int64_t /*layer*/) const { return {}; }
  // A state holding the first `length` tokens, sharing memory where it can; null when it cannot be cut there,
  // or the pool has no room.
  [[nodiscard]] virtual std::unique_ptr<SequenceState> fork(std::int64_t length) const = 0;
};

// `tokens` new rows of one sequence within a ragged batch.
struct Segment {
  SequenceState* state = nullptr;
  std::int64_t tokens = 0;
};

}  // namespace tte::nn
