// A Qwen vision-language model: a vision tower and a language model.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "models/assemble.h"

namespace tte::models::qwen {

// The parts of a family with a tower; `config`, a qwen::Config, outlives them.
template <typename Tower, typename Config>
Parts parts_of(const Config& config) {
  Parts parts;
  parts.family = config.family;
  parts.file = config.file;
  parts.text = config.text;
  parts.image_token = config.tokens.image;
  parts.video_token = config.tokens.video;
  parts.biases = {{std::string(kVisionPrefix) + "patch_embed.proj", Tower::kPatchBias, ""}};
  parts.vision = [&config](const weights::StateDict& weights) {
    return std::make_unique<const Tower>(weights, config.vision);
  };
  parts.add_vision = [&config](base::Digester& digester) { config.vision.add_to(digester); };
  return parts;
}

// What loads the models of such a family (Family::load_model); `adjust` adds to their parts what is the family's own.
template <typename Tower, typename Config>
auto model_loader(Config (*load_config)(const base::Checkpoint&),
                  void (*adjust)(const Config&, Parts&) = nullptr) {
  return [=](const base::Checkpoint& checkpoint, const ModelOptions& options) {
    const Config config = load_config(checkpoint);
    Parts parts = parts_of<Tower>(config);
    if (adjust != nullptr) adjust(config, parts);
    return assemble(checkpoint, options, std::move(parts));
  };
}

}  // namespace tte::models::qwen
