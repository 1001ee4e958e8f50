#include "models/llava_next/family.h"

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "models/assemble.h"
#include "models/llava_next/config.h"
#include "models/llava_next/preprocessor.h"
#include "models/llava_next/vision.h"

namespace tte::models::llava_next {
namespace {

// Names of all generations of checkpoints are read:
//   model.language_model.*, language_model.model.*  -> model.*
//   language_model.lm_head.*                        -> lm_head.*
//   vision_tower.*, multi_modal_projector.*, image_newline, with or without "model."  -> visual.*
std::optional<std::string> one_naming(std::string_view name) {
  static constexpr std::array<PrefixRule, 7> rules = {{
      {"language_model.model.", "model."},
      {"language_model.lm_head.", "lm_head."},
      {"language_model.", "model."},
      {"vision_tower.vision_model.", "visual.tower."},
      {"vision_tower.", "visual.tower."},
      {"multi_modal_projector.", "visual.projector."},
      {"image_newline", "visual.newline"},
  }};
  if (name.starts_with("model.")) name.remove_prefix(6);
  return replace_prefix(name, rules);
}

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  Parts parts;
  parts.family = "llava_next";
  parts.file = config.file;
  parts.text = config.text;
  parts.image_token = config.image_token;
  parts.rename = one_naming;
  for (const char* layer : {"linear_1", "linear_2"})
    parts.biases.push_back({std::string(kVisionPrefix) + "projector." + layer, config.projector_bias,
                            "multimodal_projector_bias"});
  parts.vision = [&config](const weights::StateDict& weights) {
    return std::make_unique<const VisionTower>(weights, config);
  };
  parts.add_vision = [&config](base::Digester& digester) {
    config.vision.add_to(digester);
    for (const Size& size : config.tiling.pinpoints) digester.number(size.height).number(size.width);
  };
  return assemble(checkpoint, options, std::move(parts));
}

}  // namespace

Family family() {
  return {load_preprocessor, load_model, one_naming};
}

}  // namespace tte::models::llava_next
