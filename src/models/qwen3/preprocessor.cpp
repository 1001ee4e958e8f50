#include "models/qwen3/preprocessor.h"

#include "models/qwen3/config.h"
#include "models/text_only.h"

namespace tte::models::qwen3 {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return text_only_preprocessor(checkpoint, read_config(read_config_file(checkpoint)).vocab_size);
}

}  // namespace tte::models::qwen3
