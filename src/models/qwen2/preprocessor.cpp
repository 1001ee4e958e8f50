#include "models/qwen2/preprocessor.h"

#include "models/qwen2/config.h"
#include "models/text_only.h"

namespace tte::models::qwen2 {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return text_only_preprocessor(checkpoint, read_config(read_config_file(checkpoint)).vocab_size);
}

}  // namespace tte::models::qwen2
