// What Qwen3.5 does with items before any weight is read.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/preprocessor.h"

namespace tte::models::qwen3_5 {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint);

// For the text model alone (model_type "qwen3_5_text").
std::shared_ptr<const Preprocessor> load_text_preprocessor(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen3_5
