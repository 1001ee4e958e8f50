// Qwen2.5-VL: a vision tower and a decoder with M-RoPE.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"

namespace tte::models::qwen2_5_vl {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen2_5_vl
