// A Qwen vision-language model: a vision tower and a language model.
#pragma once

#include <memory>

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
  parts.vision = [&config](const weights::StateDict& weights) {
    return std::make_unique<const Tower>(weights, config.vision);
  };
  parts.add_vision = [&config](base::Digester& digester) { config.vision.add_to(digester); };
  return parts;
}

}  // namespace tte::models::qwen
