#include "models/qwen3/preprocessor.h"

#include "models/qwen/config.h"
#include "models/text_only.h"

namespace tte::models::qwen3 {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  const TextConfig text = read_text(read_config_file(checkpoint), qwen::qwen3_rules());
  return text_only_preprocessor(checkpoint, text.vocab_size);
}

}  // namespace tte::models::qwen3
