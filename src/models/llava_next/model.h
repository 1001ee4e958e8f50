// LLaVA-NeXT: a CLIP tower that sees images in tiles, and a decoder of Llama or Mistral.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"

namespace tte::models::llava_next {

// Names of all generations of checkpoints are read:
//   model.language_model.*, language_model.model.*  -> model.*
//   language_model.lm_head.*                        -> lm_head.*
//   vision_tower.*, multi_modal_projector.*, image_newline, with or without "model."  -> visual.*
std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models::llava_next
