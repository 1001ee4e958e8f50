// Requests that wait to be admitted, and the order in which they are looked at.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "engine/sequence.h"

namespace tte::engine {

using Sequences = std::list<std::unique_ptr<Sequence>>;

// Paused sequences come first, the oldest of them before the others. Then callers take turns, and of one
// caller vectors and what continues from a pinned state come before traces that begin anew: they end soon,
// and what is pinned for them can go. States that nobody waits for yet (Sequence::background) come last.
//
// Used by one thread.
class WaitingQueue {
 public:
  // Takes the sequence at `place` of `from`. Where it throws, for want of memory, the sequence stays there.
  void add(Sequences& from, Sequences::iterator place);
  // Likewise one that ran and gave up its state. Does not throw.
  void pause(Sequences& from, Sequences::iterator place);

  // The first `most` requests in order, background apart; without `traces` those for vectors only. A request
  // that was overtaken too often lets nobody pass but those that continue from a pinned state, whose memory
  // is taken already.
  [[nodiscard]] std::vector<Sequence*> candidates(std::size_t most, bool traces);
  [[nodiscard]] Sequence* background() const;  // The first of them; null when there is none.
  // Moves one of the candidates to the end of `to`; its caller's next turn comes after everybody else's.
  // Does not throw.
  void pop(const Sequence& sequence, Sequences& to);
  // The candidate found no room, and one behind it did.
  void overtaken(Sequence& sequence);

  [[nodiscard]] bool empty() const { return paused_.empty() && lanes_.empty() && background_.empty(); }
  [[nodiscard]] bool has_vectors() const;  // Requests for vectors wait.
  void pop_first(Sequences& to);           // Whoever it is. Does not throw.
  // Moves those that `gone` picks to the end of `to`. Does not throw if `gone` does not.
  void pop_if(const std::function<bool(const Sequence&)>& gone, Sequences& to);

 private:
  // What one caller waits for.
  struct Lane {
    const void* caller = nullptr;
    Sequences first;   // Vectors and continuations.
    Sequences traces;  // That begin anew.
  };
  void promote();  // Background requests that somebody waits for by now become vectors.

  Sequences paused_;       // By age.
  std::list<Lane> lanes_;  // By turn; none is empty.
  Sequences background_;
  const Sequence* starved_ = nullptr;  // Was overtaken too often.
};

}  // namespace tte::engine
