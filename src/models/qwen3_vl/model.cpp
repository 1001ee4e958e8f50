#include "models/qwen3_vl/model.h"

#include "models/qwen/model.h"
#include "models/qwen3_vl/config.h"
#include "models/qwen3_vl/vision.h"

namespace tte::models::qwen3_vl {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  qwen::Parts parts;
  parts.family = "qwen3_vl";
  parts.file = config.file;
  parts.text = config.text;
  parts.deepstack = static_cast<std::int64_t>(config.vision.deepstack.size());
  parts.tokens = config.tokens;
  parts.vision = [&](const weights::StateDict& weights) {
    return std::make_unique<const VisionTower>(weights, config.vision);
  };
  parts.add_vision = [&](base::Digester& digester) {
    config.vision.add_to(digester);
    digester.number(config.vision.num_positions);
    for (const std::int64_t block : config.vision.deepstack) digester.number(block);
  };
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen3_vl
