#include "models/qwen3_vl/family.h"

#include "models/qwen/grid_tower.h"
#include "models/qwen/parts.h"
#include "models/qwen/stamped_preprocessor.h"
#include "models/qwen3_vl/config.h"

namespace tte::models::qwen3_vl {
namespace {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return qwen::load_stamped_preprocessor(checkpoint, load_config(checkpoint));
}

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  Parts parts = qwen::parts_of<qwen::GridTower>(config);
  parts.deepstack = static_cast<std::int64_t>(config.vision.deepstack.size());
  return assemble(checkpoint, options, std::move(parts));
}

}  // namespace

Family family() {
  return {load_preprocessor, load_model};
}

}  // namespace tte::models::qwen3_vl
