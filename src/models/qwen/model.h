// A Qwen vision-language model: a vision tower and a language model.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/checkpoint.h"
#include "models/assemble.h"
#include "models/qwen/placeholders.h"

namespace tte::models::qwen {

// The parts of a family with a tower; `config`, a qwen::Config, outlives them.
template <typename Tower, typename Config>
Parts parts_of(std::string family, const Config& config) {
  Parts parts;
  parts.family = std::move(family);
  parts.file = config.file;
  parts.text = config.text;
  parts.image_token = config.tokens.image;
  parts.video_token = config.tokens.video;
  parts.vision = [&config](const weights::StateDict& weights) {
    return std::make_unique<const Tower>(weights, config.vision);
  };
  parts.add_vision = [&config](base::Digester& digester) { config.vision.add_to(digester); };
  return parts;
}

// Assembles the parts. Each generation of checkpoints named tensors its own way; all of these are read:
//   model.visual.*          -> visual.*  (transformers 4.52 and later, in memory; some repositories saved so)
//   model.language_model.*  -> model.*
//   language_model.*, embed_tokens.*, layers.*, norm.*  -> model.*  (a bare text model)
std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options,
                                        Parts parts);

}  // namespace tte::models::qwen
