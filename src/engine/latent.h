// Rows of a step that are no tokens: what a model that thinks in latent steps reads there, it makes of its own states.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "engine/batch.h"
#include "models/model.h"

namespace tte::engine {

// Gives the latent rows of a packed step what is read there. Each is the first row of its chunk.
void give_latent_rows(const std::vector<Chunk>& chunks, const models::Model& model,
                      models::RaggedBatch& batch);

// Sequences keep what the step returned (`hidden`, one row for each of its outputs) and later latent rows are made of.
void keep_latent_states(const std::vector<Chunk>& chunks, const at::Tensor& hidden);

}  // namespace tte::engine
