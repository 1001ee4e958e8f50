#include "engine/latent.h"

#include <ATen/ATen.h>

#include <cstdint>

namespace tte::engine {

void give_latent_rows(const std::vector<Chunk>& chunks, const models::Model& model,
                      models::RaggedBatch& batch) {
  std::vector<std::int64_t> rows, steps;
  std::vector<at::Tensor> states, contexts;
  std::int64_t first = 0;  // The chunk's row in the batch.
  for (const Chunk& chunk : chunks) {
    const Sequence& sequence = *chunk.sequence;
    const models::LatentRows& latent = sequence.prompt().latent;
    if (latent.has(sequence.done)) {
      rows.push_back(first);
      steps.push_back(sequence.done - latent.begin);
      states.push_back(sequence.latent.last);
      contexts.push_back(latent.context < 0 ? at::zeros_like(sequence.latent.last) : sequence.latent.context);
    }
    first += chunk.tokens;
  }
  if (rows.empty()) return;
  batch.given_rows = at::tensor(rows, at::kLong);
  batch.given = model.next_latent(at::cat(states), at::cat(contexts), steps);
}

void keep_latent_states(const std::vector<Chunk>& chunks, const at::Tensor& hidden) {
  for (const Chunk& chunk : chunks) {
    for (const auto& [token, output] : chunk.feeding) {
      const at::Tensor state = hidden.narrow(0, output, 1).clone();  // Without the step's other rows.
      const models::LatentRows& latent = chunk.sequence->prompt().latent;
      if (token == latent.context) chunk.sequence->latent.context = state;
      if (token >= latent.begin - 1) chunk.sequence->latent.last = state;
    }
  }
}

}  // namespace tte::engine
