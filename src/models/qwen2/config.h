// The config.json of Qwen2 and Qwen2.5.
#pragma once

#include "models/config_file.h"

namespace tte::models::qwen2 {

// Throws ModelError naming file, key and value.
TextConfig read_config(const ConfigFile& file);

}  // namespace tte::models::qwen2
