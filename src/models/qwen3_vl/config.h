// config.json of Qwen3-VL.
#pragma once

#include "base/checkpoint.h"
#include "models/qwen/config.h"

namespace tte::models::qwen3_vl {

using Config = qwen::Config<qwen::GridVisionConfig>;

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (Qwen3VLTextConfig, Qwen3VLMoeTextConfig,
// Qwen3VLVisionConfig). Throws ModelError naming file, key and value for what makes no sense or is not supported.
Config load_config(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen3_vl
