// Qwen3: the decoder of Qwen3-VL without vision, which generators and embedders of text are made of.
#pragma once

#include <filesystem>
#include <memory>

#include "models/model.h"

namespace tte::models::qwen3 {

std::shared_ptr<const Model> load_model(const std::filesystem::path& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen3
