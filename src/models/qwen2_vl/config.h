// config.json of Qwen2-VL.
#pragma once

#include "base/checkpoint.h"
#include "models/qwen/config.h"

namespace tte::models::qwen2_vl {

using Config = qwen::Config<qwen::VisionConfig>;

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (Qwen2VLTextConfig, Qwen2VLVisionConfig).
// Throws ModelError naming file, key and value for what makes no sense or is not supported.
Config load_config(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen2_vl
