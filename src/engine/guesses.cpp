#include "engine/guesses.h"

#include <algorithm>
#include <utility>

#include "engine/draft.h"
#include "engine/sequence.h"

namespace tte::engine {
namespace {

// Rows up to which a step takes hardly longer than with one: where the weights are read once for all of them.
constexpr std::int64_t kCheapRows = 16;

void add_drafts(std::vector<Draft::Wish> wishes, std::int64_t draft_step, std::vector<Chunk>& chunks) {
  while (!wishes.empty()) {  // Those of each draft; as a rule there is one.
    Draft& draft = wishes.front().reader->draft();
    const auto others = std::stable_partition(wishes.begin(), wishes.end(), [&](const Draft::Wish& wish) {
      return &wish.reader->draft() == &draft;
    });
    std::vector<Draft::Wish> rest(others, wishes.end());
    wishes.erase(others, wishes.end());
    draft.guess(wishes, draft_step);
    for (Draft::Wish& wish : wishes) {
      const auto chunk = std::find_if(chunks.begin(), chunks.end(),
                                      [&](const Chunk& each) { return each.sequence == wish.sequence; });
      chunk->guesses = wish.sequence->take_drafted(std::move(wish.guesses));
      chunk->drafted = true;
    }
    wishes = std::move(rest);
  }
}

}  // namespace

void add_guesses(const GuessLimits& limits, std::vector<Chunk>& chunks) {
  const auto decoding = std::count_if(chunks.begin(), chunks.end(),
                                      [](const Chunk& chunk) { return chunk.sequence->decoding(); });
  std::int64_t spare = std::min(limits.spare, kCheapRows - decoding), behind = decoding;
  std::vector<Draft::Wish> wishes;
  for (Chunk& chunk : chunks) {
    Sequence& sequence = *chunk.sequence;
    if (!sequence.decoding()) continue;
    const std::int64_t most = spare / behind--;
    if (most <= 0 || !sequence.state->cuttable()) continue;
    chunk.guesses = sequence.look_up(std::min(most, limits.lookup));
    DraftReader* reader = chunk.guesses == 0 ? sequence.draft_reader() : nullptr;
    if (reader != nullptr) wishes.push_back({&sequence, reader, most});
    spare -= reader != nullptr ? std::min(most, reader->most()) : chunk.guesses;
  }
  if (!wishes.empty()) add_drafts(std::move(wishes), limits.draft_step, chunks);
  for (Chunk& chunk : chunks) {
    Sequence& sequence = *chunk.sequence;
    if (chunk.guesses > 0 && !sequence.state->reserve(sequence.length() + chunk.guesses))
      chunk.guesses = sequence.look_up(0);
    chunk.tokens += chunk.guesses;
  }
}

}  // namespace tte::engine
