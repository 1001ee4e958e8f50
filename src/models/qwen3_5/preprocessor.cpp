#include "models/qwen3_5/preprocessor.h"

#include "models/qwen/stamped_preprocessor.h"
#include "models/qwen3_5/config.h"
#include "models/text_only.h"

namespace tte::models::qwen3_5 {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return qwen::load_stamped_preprocessor(checkpoint, load_config(checkpoint));
}

std::shared_ptr<const Preprocessor> load_text_preprocessor(const base::Checkpoint& checkpoint) {
  return text_only_preprocessor(checkpoint, load_text_config(checkpoint).vocab_size);
}

}  // namespace tte::models::qwen3_5
