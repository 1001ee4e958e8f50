#include "models/qwen3_5/model.h"

#include "base/file.h"
#include "models/qwen/grid_tower.h"
#include "models/qwen/model.h"
#include "models/qwen3_5/config.h"

namespace tte::models::qwen3_5 {
namespace {

// Layers that guess several tokens at once, for programs that check such guesses.
constexpr const char* kGuessing = "mtp.";

}  // namespace

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  Parts parts = qwen::parts_of<qwen::GridTower>(model_type(checkpoint), config);
  parts.unread = {kGuessing};
  return qwen::load_model(checkpoint, options, parts);
}

std::shared_ptr<const Model> load_text_model(const base::Checkpoint& checkpoint,
                                             const ModelOptions& options) {
  Parts parts;
  parts.family = model_type(checkpoint);
  parts.file = base::shown(checkpoint / "config.json");
  parts.text = load_text_config(checkpoint);
  parts.unread = {kGuessing, "visual."};  // As transformers' Qwen3_5ForCausalLM.
  return qwen::load_model(checkpoint, options, parts);
}

}  // namespace tte::models::qwen3_5
