#include "models/qwen2_5_vl/family.h"

#include "models/qwen/parts.h"
#include "models/qwen/preprocessor.h"
#include "models/qwen2_5_vl/config.h"
#include "models/qwen2_5_vl/vision.h"

namespace tte::models::qwen2_5_vl {
namespace {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  const Config config = load_config(checkpoint);
  return qwen::make_preprocessor(
      qwen::load_visual_specs(checkpoint, config.vision.patch_spec()), config.tokens,
      [per_second = static_cast<float>(config.vision.tokens_per_second)](const Visual& visual) {
        return visual.video ? per_second * static_cast<float>(visual.seconds_per_grid) : 1.0F;
      });
}

}  // namespace

Family family() {
  return {load_preprocessor, qwen::model_loader<VisionTower>(load_config)};
}

}  // namespace tte::models::qwen2_5_vl
