#include "models/qwen3/model.h"

#include "models/qwen/model.h"
#include "models/qwen3/config.h"

namespace tte::models::qwen3 {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const ConfigFile file = read_config_file(checkpoint);
  Parts parts;
  parts.family = file.root().text("model_type", "qwen3");
  parts.file = file.name;
  parts.text = read_config(file);
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen3
