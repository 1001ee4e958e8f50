// config.json of Qwen2.5-VL.
#pragma once

#include <cstdint>
#include <vector>

#include "base/checkpoint.h"
#include "models/qwen/config.h"

namespace tte::models::qwen2_5_vl {

struct VisionConfig : qwen::VisionConfig {
  std::int64_t window_size = 112;         // window_size, in pixels
  std::vector<std::int64_t> full_blocks;  // fullatt_block_indexes: blocks that see a whole frame
  double tokens_per_second = 4;           // tokens_per_second: positions that a second of video takes

  // Merged tokens on a side of a window.
  [[nodiscard]] std::int64_t window() const { return window_size / merge_size / patch_size; }

  // As the base's, with what this family adds.
  void add_to(base::Digester& digester) const;
};

using Config = qwen::Config<VisionConfig>;

// Reads `checkpoint`/config.json; what is absent has transformers' defaults (Qwen2_5_VLTextConfig,
// Qwen2_5_VLVisionConfig). Throws ModelError naming file, key and value for what makes no sense or is not supported.
Config load_config(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen2_5_vl
