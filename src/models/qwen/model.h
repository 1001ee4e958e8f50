// A Qwen vision-language model: a vision tower and a language model.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checkpoint.h"
#include "models/language_model.h"
#include "models/model.h"
#include "models/qwen/vision_tower.h"
#include "weights/state_dict.h"

namespace tte::models::qwen {

// What a family says of itself.
struct Parts {
  std::string family;  // config.json's model_type
  std::string file;    // config.json, for errors.
  TextConfig text;
  std::int64_t deepstack = 0;  // See LanguageModel.
  // Makes the tower from the weights below "visual."; null for a model of text only.
  std::function<std::unique_ptr<const VisionTower>(const weights::StateDict& weights)> vision;
  // Adds every setting that decides what the tower computes.
  std::function<void(base::Digester& digester)> add_vision;
  PlaceholderTokens tokens;
};

// Of a family with a tower; `config`, a qwen::Config, outlives it.
template <typename Tower, typename Config>
Parts parts_of(std::string family, const Config& config) {
  Parts parts;
  parts.family = std::move(family);
  parts.file = config.file;
  parts.text = config.text;
  parts.tokens = config.tokens;
  parts.vision = [&config](const weights::StateDict& weights) {
    return std::make_unique<const Tower>(weights, config.vision);
  };
  parts.add_vision = [&config](base::Digester& digester) { config.vision.add_to(digester); };
  return parts;
}

// The checkpoint's tensors must all be used, but for inv_freq of old tools. Each generation named
// them its own way; all of these are read:
//   model.visual.*          -> visual.*  (transformers 4.52 and later, in memory; some repositories saved so)
//   model.language_model.*  -> model.*
//   language_model.*, embed_tokens.*, layers.*, norm.*  -> model.*  (a bare text model)
std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options,
                                        const Parts& parts);

}  // namespace tte::models::qwen
