#include "engine/prompt_lookup.h"

#include <algorithm>

namespace tte::engine {
namespace {

// Tokens that have to stand somewhere again: of two alone too many do by chance.
constexpr std::ptrdiff_t kSame = 3;

}  // namespace

PromptLookup::PromptLookup(std::span<const std::int64_t> prompt) : ids_(prompt.begin(), prompt.end()) {}

void PromptLookup::accept(std::int64_t id) {
  ids_.push_back(id);
}

std::vector<std::int64_t> PromptLookup::guess(std::int64_t most) const {
  most = std::min(most, length_.next());
  if (most <= 0 || std::ssize(ids_) <= kSame) return {};
  const auto last = ids_.end() - kSame;
  // The latest place: a trace quotes what it is about now.
  const auto found = std::find_end(ids_.begin(), ids_.end() - 1, last, ids_.end());
  if (found == ids_.end() - 1) return {};
  const auto next = found + kSame;
  return {next, next + std::min<std::ptrdiff_t>(most, ids_.end() - next)};
}

}  // namespace tte::engine
