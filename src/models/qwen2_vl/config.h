// config.json of Qwen2-VL.
#pragma once

#include <string>

#include "base/checkpoint.h"
#include "models/language_model.h"
#include "models/qwen/config.h"

namespace tte::models::qwen2_vl {

struct Config {
  std::string file;  // For errors.
  TextConfig text;
  qwen::VisionConfig vision;
  qwen::PlaceholderTokens tokens;
};

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (Qwen2VLTextConfig,
// Qwen2VLVisionConfig). Throws ModelError naming file, key and value for what makes no sense or is not
// supported.
Config load_config(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen2_vl
