#include "models/qwen2/model.h"

#include "models/qwen/model.h"
#include "models/qwen2/config.h"

namespace tte::models::qwen2 {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const ConfigFile file = read_config_file(checkpoint);
  Parts parts;
  parts.family = "qwen2";
  parts.file = file.name;
  parts.text = read_config(file);
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen2
