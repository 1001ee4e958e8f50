// What one step runs of each sequence, packed for the model.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/sequence.h"
#include "models/model.h"

namespace tte::engine {

// The next `tokens` tokens of a sequence, the last `guesses` of which are guessed. Once packed: which of the batch's
// outputs are its own.
struct Chunk {
  Sequence* sequence = nullptr;
  std::int64_t tokens = 0;
  std::int64_t guesses = 0;
  bool drafted = false;  // They are a draft's.
  std::int64_t first_output = 0;
  std::int64_t outputs = 0;
  // Outputs that latent rows are made of, each behind the index of its token.
  std::vector<std::pair<std::int64_t, std::int64_t>> feeding{};
};

// Packs the chunks in their order. Their sequences all have hidden(), or none has; the features that they need are
// there.
models::RaggedBatch pack(std::vector<Chunk>& chunks, const models::Model& model);

}  // namespace tte::engine
