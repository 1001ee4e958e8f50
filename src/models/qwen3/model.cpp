#include "models/qwen3/model.h"

#include "models/qwen/config.h"
#include "models/qwen/model.h"

namespace tte::models::qwen3 {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const qwen::ConfigFile file = qwen::read_config_file(checkpoint);
  qwen::Parts parts;
  parts.family = "qwen3";
  parts.file = file.name;
  parts.text = qwen::read_text(file, qwen::qwen3_rules());
  parts.tokens = qwen::no_placeholders(parts.text);
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen3
