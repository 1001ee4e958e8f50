// Qwen3-VL: a vision tower whose middle blocks also reach the first layers of a decoder with M-RoPE.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"

namespace tte::models::qwen3_vl {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen3_vl
