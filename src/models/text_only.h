// The Preprocessor of models that read text only.
#pragma once

#include <cstdint>
#include <memory>

#include "base/checkpoint.h"
#include "models/preprocessor.h"

namespace tte::models {

// Refuses images and videos, naming the checkpoint; tokens count up from position 0.
std::shared_ptr<const Preprocessor> text_only_preprocessor(const base::Checkpoint& checkpoint,
                                                           std::int64_t vocab_size);

}  // namespace tte::models
