#include "models/qwen3_5/family.h"

#include "models/qwen/grid_tower.h"
#include "models/qwen/parts.h"
#include "models/qwen/stamped_preprocessor.h"
#include "models/qwen3_5/config.h"
#include "models/text_only.h"

namespace tte::models::qwen3_5 {
namespace {

// Layers that guess several tokens at once, for programs that check such guesses.
constexpr const char* kGuessing = "mtp.";

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  return qwen::load_stamped_preprocessor(checkpoint, load_config(checkpoint));
}

void leave_guessing(const Config& /*config*/, Parts& parts) {
  parts.unread = {kGuessing};
}

}  // namespace

Family family() {
  return {load_preprocessor, qwen::model_loader<qwen::GridTower>(load_config, leave_guessing)};
}

Family text_family() {
  return text_only_family(read_text_config, {kGuessing, "visual."});  // As transformers' Qwen3_5ForCausalLM.
}

}  // namespace tte::models::qwen3_5
