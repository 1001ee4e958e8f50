// Qwen2 and Qwen2.5: models of text, of which many that reason are made. Their biases are where their tensors are.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"

namespace tte::models::qwen2 {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen2
