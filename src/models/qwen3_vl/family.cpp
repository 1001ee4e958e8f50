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

void add_deepstack(const Config& config, Parts& parts) {
  parts.deepstack = static_cast<std::int64_t>(config.vision.deepstack.size());
}

}  // namespace

Family family() {
  return {load_preprocessor, qwen::model_loader<qwen::GridTower>(load_config, add_deepstack)};
}

}  // namespace tte::models::qwen3_vl
