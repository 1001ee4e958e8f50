#include "models/qwen2_5_vl/model.h"

#include "models/qwen/model.h"
#include "models/qwen2_5_vl/config.h"
#include "models/qwen2_5_vl/vision.h"

namespace tte::models::qwen2_5_vl {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  return qwen::load_model(checkpoint, options, qwen::parts_of<VisionTower>("qwen2_5_vl", config));
}

}  // namespace tte::models::qwen2_5_vl
