#include "models/qwen3_vl/model.h"

#include "models/qwen/grid_tower.h"
#include "models/qwen/model.h"
#include "models/qwen3_vl/config.h"

namespace tte::models::qwen3_vl {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  Parts parts = qwen::parts_of<qwen::GridTower>(model_type(checkpoint), config);
  parts.deepstack = static_cast<std::int64_t>(config.vision.deepstack.size());
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen3_vl
