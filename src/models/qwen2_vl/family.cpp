#include "models/qwen2_vl/family.h"

#include "models/qwen/parts.h"
#include "models/qwen/preprocessor.h"
#include "models/qwen2_vl/config.h"
#include "models/qwen2_vl/vision.h"

namespace tte::models::qwen2_vl {
namespace {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  const Config config = load_config(checkpoint);
  return qwen::make_preprocessor(qwen::load_visual_specs(checkpoint, config.vision.patch_spec()),
                                 config.tokens, [](const Visual& /*visual*/) { return 1.0F; });
}

}  // namespace

Family family() {
  return {load_preprocessor, qwen::model_loader<VisionTower>(load_config)};
}

}  // namespace tte::models::qwen2_vl
