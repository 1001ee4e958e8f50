#include "models/qwen2_vl/model.h"

#include "models/qwen/model.h"
#include "models/qwen2_vl/config.h"
#include "models/qwen2_vl/vision.h"

namespace tte::models::qwen2_vl {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  qwen::Parts parts;
  parts.family = "qwen2_vl";
  parts.file = config.file;
  parts.text = config.text;
  parts.tokens = config.tokens;
  parts.vision = [&](const weights::StateDict& weights) {
    return std::make_unique<const VisionTower>(weights, config.vision);
  };
  parts.add_vision = [&](base::Digester& digester) { config.vision.add_to(digester); };
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen2_vl
