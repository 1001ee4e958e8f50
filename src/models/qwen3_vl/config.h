// config.json of Qwen3-VL.
#pragma once

#include <cstdint>
#include <vector>

#include "base/checkpoint.h"
#include "models/qwen/config.h"

namespace tte::models::qwen3_vl {

struct VisionConfig : qwen::VisionConfig {
  std::int64_t num_positions = 2304;  // num_position_embeddings: learned positions, a square grid
  std::vector<std::int64_t>
      deepstack;  // deepstack_visual_indexes: blocks whose output is merged too, ascending

  // As the base's, with what this family adds.
  void add_to(base::Digester& digester) const;
};

using Config = qwen::Config<VisionConfig>;

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (Qwen3VLTextConfig,
// Qwen3VLVisionConfig). Throws ModelError naming file, key and value for what makes no sense or is not
// supported.
Config load_config(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen3_vl
