#include "models/llama/model.h"

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "models/assemble.h"
#include "models/llama_text.h"

namespace tte::models::llama {
namespace {

// A model saved without its head has names without "model.".
std::optional<std::string> with_head(std::string_view name) {
  for (const char* part : {"embed_tokens.", "layers.", "norm."}) {
    if (name.starts_with(part)) return std::string("model.").append(name);
  }
  return std::nullopt;
}

}  // namespace

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const ConfigFile file = read_config_file(checkpoint);
  Parts parts;
  parts.family = file.root().text("model_type", "llama");
  parts.file = file.name;
  parts.text = read_llama_text(file, parts.family);
  parts.rename = with_head;
  return assemble(checkpoint, options, parts);
}

}  // namespace tte::models::llama
