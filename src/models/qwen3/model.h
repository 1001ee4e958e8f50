// Qwen3: the decoder of Qwen3-VL without vision, which generators and embedders of text are made of. Dense, or with
// mixtures of experts.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"

namespace tte::models::qwen3 {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen3
