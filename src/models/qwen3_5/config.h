// config.json of Qwen3.5.
#pragma once

#include "base/checkpoint.h"
#include "models/qwen/config.h"

namespace tte::models::qwen3_5 {

using Config = qwen::Config<qwen::GridVisionConfig>;

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (Qwen3_5TextConfig, Qwen3_5MoeTextConfig,
// Qwen3_5VisionConfig). Throws ModelError naming file, key and value for what makes no sense or is not supported.
Config load_config(const base::Checkpoint& checkpoint);

// The same of a text model alone (model_type "qwen3_5_text" or "qwen3_5_moe_text").
TextConfig read_text_config(const ConfigFile& file);

}  // namespace tte::models::qwen3_5
