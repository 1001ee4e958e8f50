#include "models/llama/preprocessor.h"

#include "models/llama_text.h"
#include "models/text_only.h"

namespace tte::models::llama {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  const ConfigFile file = read_config_file(checkpoint);
  const TextConfig text = read_llama_text(file, file.root().text("model_type", "llama"));
  return text_only_preprocessor(checkpoint, text.vocab_size);
}

}  // namespace tte::models::llama
