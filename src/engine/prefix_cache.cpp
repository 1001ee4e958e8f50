#include "engine/prefix_cache.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <iterator>
#include <utility>

#include "engine/engine.h"

namespace tte::engine {
namespace {

// Beside the values of base::Modality.
constexpr std::uint64_t kLatentKind = 255;

// The finaliser of splitmix64: every input bit changes about half of the output bits.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

std::uint64_t word(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}

}  // namespace

void TokenChain::push(const std::array<std::uint64_t, 7>& words) {
  base::Digest link =
      links_.empty() ? base::Digest{0x9e3779b97f4a7c15ULL + kind_, 0xd1b54a32d192ed03ULL} : links_.back();
  for (const std::uint64_t value : words) {
    link.low = mix(link.low + value * 0x9e3779b97f4a7c15ULL + 1);
    link.high = mix((link.high ^ std::rotl(value, 29)) + 0xd1b54a32d192ed03ULL);
  }
  links_.push_back(link);
}

void TokenChain::push_text(std::int64_t id, const std::array<std::int64_t, 3>& position) {
  push({word(id), 0, word(position[0]), word(position[1]), word(position[2]), 0, 0});
}

void TokenChain::push_visual(std::int64_t id, base::Modality kind,
                             const std::array<std::int64_t, 3>& position, const base::Digest& visual) {
  push({word(id), word(static_cast<std::int64_t>(kind)), word(position[0]), word(position[1]),
        word(position[2]), visual.low, visual.high});
}

void TokenChain::push_latent(std::int64_t step, const std::array<std::int64_t, 3>& position,
                             std::int64_t context) {
  push({word(step), kLatentKind, word(position[0]), word(position[1]), word(position[2]), word(context), 0});
}

std::int64_t TokenChain::common_prefix(const TokenChain& other) const {
  std::size_t low = 0;  // Links below are equal, from `high` on they differ.
  std::size_t high = std::min(links_.size(), other.links_.size());
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (links_[middle] == other.links_[middle]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return static_cast<std::int64_t>(low);
}

bool TokenChain::operator==(const TokenChain& other) const {
  return size() == other.size() && (links_.empty() || links_.back() == other.links_.back());
}

TokenChain chain_of(const models::Prompt& prompt, bool from_hidden) {
  TokenChain chain(from_hidden ? 1 : 0);
  std::size_t visual = 0;
  std::int64_t left = prompt.visual_tokens.empty() ? 0 : prompt.visual_tokens[0];
  for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    if (prompt.latent.has(row)) {
      chain.push_latent(row - prompt.latent.begin, prompt.positions[i], prompt.latent.context);
      continue;
    }
    if (prompt.kinds[i] == base::Modality::kText) {
      chain.push_text(prompt.ids[i], prompt.positions[i]);
      continue;
    }
    while (left == 0) left = prompt.visual_tokens[++visual];
    chain.push_visual(prompt.ids[i], prompt.kinds[i], prompt.positions[i],
                      prompt.visuals[visual]->patches.digest);
    --left;
  }
  return chain;
}

struct PrefixCache::Pins {
  std::atomic<int> count = 0;
};

struct PrefixCache::Pin : PrefixPin {
  explicit Pin(std::shared_ptr<Pins> shared) : pins(std::move(shared)) { ++pins->count; }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  // Only the count goes down here: the state belongs to the executor's thread, where it becomes evictable.
  ~Pin() override { --pins->count; }
  std::shared_ptr<Pins> pins;
};

PrefixCache::Forked PrefixCache::fork(const TokenChain& chain, std::int64_t limit,
                                      std::optional<std::int64_t> kept_layer) {
  auto best = entries_.end();
  std::int64_t longest = 0;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const std::int64_t length = std::min(chain.common_prefix(it->chain), limit);
    if (length <= longest || !it->state->can_fork(length)) continue;
    if (kept_layer && !it->state->keeps_hidden(*kept_layer)) continue;
    best = it;
    longest = length;
  }
  if (best == entries_.end()) return {};
  entries_.splice(entries_.begin(), entries_, best);
  return {best->state->fork(longest), longest, best->state.get()};
}

std::shared_ptr<PrefixPin> PrefixCache::insert(TokenChain chain, std::unique_ptr<models::SequenceState> state,
                                               bool pin) {
  const auto equal = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.chain == chain; });
  if (equal != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, equal);
    if (state->kept_layers() > equal->state->kept_layers()) equal->state = std::move(state);
  } else {
    entries_.push_front({std::move(chain), std::move(state), std::make_shared<Pins>()});
  }
  std::shared_ptr<PrefixPin> result;
  if (pin) result = std::make_shared<Pin>(entries_.front().pins);
  const models::SequenceState* kept = entries_.front().state.get();
  while (idle_bytes() > max_idle_bytes_ && evict(false, kept)) {
  }
  while (entries_.size() > max_entries_ && (evict(false, kept) || evict(true, kept))) {
  }
  return result;
}

std::int64_t PrefixCache::idle_bytes() const {
  std::int64_t bytes = 0;
  for (const Entry& entry : entries_) bytes += entry.pins->count.load() == 0 ? entry.state->bytes() : 0;
  return bytes;
}

bool PrefixCache::evict(bool pinned, const models::SequenceState* except) {
  for (auto it = entries_.rbegin(); it != entries_.rend(); ++it) {
    if (it->state.get() == except || (!pinned && it->pins->count.load() > 0)) continue;
    entries_.erase(std::next(it).base());
    return true;
  }
  return false;
}

}  // namespace tte::engine
