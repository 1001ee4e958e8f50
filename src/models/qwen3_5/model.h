// Qwen3.5: a vision tower, and a decoder most of whose layers keep a memory of fixed size instead of keys and
// values.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"

namespace tte::models::qwen3_5 {

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

// Loads the text model alone (model_type "qwen3_5_text").
std::shared_ptr<const Model> load_text_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen3_5
