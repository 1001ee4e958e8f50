// States of earlier sequences, found again by what they have read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/digest.h"
#include "models/model.h"

namespace tte::engine {

class PrefixPin;

// Everything a model reads of a sequence, as one running 128-bit hash per token: id, kind, position and, for
// the tokens of an image, the image's digest; of a latent step, which is made of what stands before it, its number.
// at(i) covers the tokens 0 .. i, so the common prefix of two chains is found by bisection. Not cryptographic: who
// chooses the bytes of images can make two that count as the same one, so callers who must not see each other's work
// need a backend each.
class TokenChain {
 public:
  TokenChain() = default;
  // Chains of different `kind`s have no prefix in common.
  explicit TokenChain(std::uint64_t kind) : kind_(kind) {}
  void push_text(std::int64_t id, const std::array<std::int64_t, 3>& position);
  void push_visual(std::int64_t id, base::Modality kind, const std::array<std::int64_t, 3>& position,
                   const base::Digest& visual);
  // `context`: the token whose state the step sees.
  void push_latent(std::int64_t step, const std::array<std::int64_t, 3>& position, std::int64_t context);
  void truncate(std::int64_t tokens) { links_.resize(static_cast<std::size_t>(tokens)); }

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(links_.size()); }
  [[nodiscard]] std::int64_t common_prefix(const TokenChain& other) const;
  bool operator==(const TokenChain& other) const;

 private:
  void push(const std::array<std::uint64_t, 7>& words);
  std::uint64_t kind_ = 0;
  std::vector<base::Digest> links_;
};

// The prompt's visual_tokens must be consistent. `from_hidden`: of a state that only the layers of a head have read.
TokenChain chain_of(const models::Prompt& prompt, bool from_hidden = false);

// The least recently used entry is dropped first. Used by one thread; only pins may be dropped by others.
class PrefixCache {
 public:
  // `max_entries` bounds the search; `max_idle_bytes` what entries that nobody pinned hold together (the
  // last one is kept in any case), so that a long run does not fill the whole pool with states that are never
  // wanted again.
  PrefixCache(std::size_t max_entries, std::int64_t max_idle_bytes)
      : max_entries_(max_entries), max_idle_bytes_(max_idle_bytes) {}

  struct Forked {
    std::unique_ptr<models::SequenceState> state;  // Null when there is none, or no room for it.
    std::int64_t length = 0;
    const models::SequenceState* source = nullptr;  // The entry it comes from; null when there is none.
  };
  // A state holding the longest cached prefix of `chain` that has at most `limit` tokens and can be cut
  // there, and that keeps the hidden states that go into `kept_layer`.
  [[nodiscard]] Forked fork(const TokenChain& chain, std::int64_t limit,
                            std::optional<std::int64_t> kept_layer = std::nullopt);

  // Keeps `state`, which holds exactly the tokens of `chain`. An equal entry that keeps as much is kept in its place.
  // Returns a pin when asked for one.
  std::shared_ptr<PrefixPin> insert(TokenChain chain, std::unique_ptr<models::SequenceState> state, bool pin);

  // Drops the least recently used entry other than `except`; pinned ones only with `pinned`. False when there
  // is none.
  bool evict(bool pinned, const models::SequenceState* except = nullptr);
  void clear() { entries_.clear(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  struct Pins;
  struct Pin;
  struct Entry {
    TokenChain chain;
    std::unique_ptr<models::SequenceState> state;
    std::shared_ptr<Pins> pins;
  };
  [[nodiscard]] std::int64_t idle_bytes() const;

  std::size_t max_entries_;
  std::int64_t max_idle_bytes_;
  std::list<Entry> entries_;  // Most recently used first.
};

}  // namespace tte::engine
