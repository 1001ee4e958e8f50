// The config.json of Qwen3, the decoder of Qwen3-VL without vision: dense, or with mixtures of experts.
#pragma once

#include "models/config_file.h"

namespace tte::models::qwen3 {

// Throws ModelError naming file, key and value.
TextConfig read_config(const ConfigFile& file);

}  // namespace tte::models::qwen3
