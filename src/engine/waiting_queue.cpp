#include "engine/waiting_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tte::engine {
namespace {

// How many requests may be admitted before one that waits for room: enough that a large one does not stop
// small ones, few enough that it is not kept waiting.
constexpr int kMaxOvertaken = 8;

Sequences::iterator find(Sequences& sequences, const Sequence& wanted) {
  return std::find_if(sequences.begin(), sequences.end(),
                      [&](const auto& sequence) { return sequence.get() == &wanted; });
}

bool move_from(Sequences& from, const Sequence& wanted, Sequences& to) {
  const auto place = find(from, wanted);
  if (place == from.end()) return false;
  to.splice(to.end(), from, place);
  return true;
}

}  // namespace

void WaitingQueue::add(Sequences& from, Sequences::iterator place) {
  const Sequence& sequence = **place;
  if (sequence.background()) {
    background_.splice(background_.end(), from, place);
    return;
  }
  auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                           [&](const Lane& known) { return known.caller == sequence.caller(); });
  if (lane == lanes_.end()) {
    lane = lanes_.emplace(lanes_.end());
    lane->caller = sequence.caller();
  }
  Sequences& to = sequence.generates() && !sequence.continues() ? lane->traces : lane->first;
  to.splice(to.end(), from, place);
}

void WaitingQueue::pause(Sequences& from, Sequences::iterator place) {
  if ((*place)->background()) {
    background_.splice(background_.begin(), from, place);
    return;
  }
  const auto younger = std::find_if(paused_.begin(), paused_.end(),
                                    [&](const auto& other) { return other->ticket > (*place)->ticket; });
  paused_.splice(younger, from, place);
}

std::vector<Sequence*> WaitingQueue::candidates(std::size_t most, bool traces) {
  promote();
  std::vector<Sequence*> out;
  const auto offer = [&](const std::unique_ptr<Sequence>& sequence) {
    if (out.size() < most && (traces || !sequence->generates())) out.push_back(sequence.get());
  };
  const auto offer_behind = [&](const std::unique_ptr<Sequence>& sequence) {
    if (starved_ == nullptr || starved_ == sequence.get() || sequence->continues()) offer(sequence);
  };
  for (const auto& sequence : paused_) offer(sequence);
  // One of each caller, then the second of each, and so on.
  struct Reader {
    const Lane* lane;
    Sequences::const_iterator next;
    bool first = true;
  };
  std::vector<Reader> readers;
  for (const Lane& lane : lanes_) readers.push_back({&lane, lane.first.begin()});
  // What is paused began earlier: no new trace takes its memory.
  traces = traces && paused_.empty();
  while (out.size() < most && !readers.empty()) {
    std::erase_if(readers, [&](Reader& reader) {
      if (reader.first && reader.next == reader.lane->first.end()) {
        reader.first = false;
        reader.next = traces ? reader.lane->traces.begin() : reader.lane->traces.end();
      }
      if (!reader.first && reader.next == reader.lane->traces.end()) return true;
      offer_behind(*reader.next++);
      return false;
    });
  }
  return out;
}

Sequence* WaitingQueue::background() const {
  return background_.empty() ? nullptr : background_.front().get();
}

void WaitingQueue::pop(const Sequence& sequence, Sequences& to) {
  if (starved_ == &sequence) starved_ = nullptr;
  for (auto lane = lanes_.begin(); lane != lanes_.end(); ++lane) {
    if (!move_from(lane->first, sequence, to) && !move_from(lane->traces, sequence, to)) continue;
    if (lane->first.empty() && lane->traces.empty()) {
      lanes_.erase(lane);
    } else {
      lanes_.splice(lanes_.end(), lanes_, lane);
    }
    return;
  }
  if (!move_from(paused_, sequence, to)) move_from(background_, sequence, to);
}

void WaitingQueue::overtaken(Sequence& sequence) {
  if (++sequence.overtaken >= kMaxOvertaken && starved_ == nullptr) starved_ = &sequence;
}

bool WaitingQueue::has_vectors() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) {
    return std::any_of(lane.first.begin(), lane.first.end(),
                       [](const auto& sequence) { return !sequence->generates(); });
  });
}

void WaitingQueue::pop_first(Sequences& to) {
  if (!paused_.empty()) return pop(*paused_.front(), to);
  if (lanes_.empty()) {
    if (!background_.empty()) pop(*background_.front(), to);
    return;
  }
  const Lane& lane = lanes_.front();
  pop(*(lane.first.empty() ? lane.traces : lane.first).front(), to);
}

void WaitingQueue::pop_if(const std::function<bool(const Sequence&)>& gone, Sequences& to) {
  const auto sift = [&](Sequences& from) {
    for (auto it = from.begin(); it != from.end();) {
      const auto here = it++;
      if (!gone(**here)) continue;
      if (starved_ == here->get()) starved_ = nullptr;
      to.splice(to.end(), from, here);
    }
  };
  sift(paused_);
  sift(background_);
  for (Lane& lane : lanes_) {
    sift(lane.first);
    sift(lane.traces);
  }
  std::erase_if(lanes_, [](const Lane& lane) { return lane.first.empty() && lane.traces.empty(); });
}

void WaitingQueue::promote() {
  for (auto it = background_.begin(); it != background_.end();) {
    const auto here = it++;
    if (!(*here)->background()) add(background_, here);
  }
}

}  // namespace tte::engine
