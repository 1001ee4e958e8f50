// What Qwen2 does with items before any weight is read.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/preprocessor.h"

namespace tte::models::qwen2 {

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint);

}  // namespace tte::models::qwen2
