#include "models/qwen3_vl/preprocessor.h"

#include "models/qwen/stamped_preprocessor.h"
#include "models/qwen3_vl/config.h"

namespace tte::models::qwen3_vl {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return qwen::load_stamped_preprocessor(checkpoint, load_config(checkpoint));
}

}  // namespace tte::models::qwen3_vl
