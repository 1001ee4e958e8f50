// Tensor names and fingerprints of Qwen2-VL checkpoints.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "models/model.h"
#include "models/qwen2_vl/config.h"
#include "weights/state_dict.h"

namespace tte::models::qwen2_vl {

namespace names {
inline constexpr const char* kVision = "visual.";
inline constexpr const char* kEmbedding = "model.embed_tokens.weight";
inline constexpr const char* kLayers = "model.layers.";
inline constexpr const char* kFinalNorm = "model.norm";
inline constexpr const char* kHead = "lm_head.weight";

// The first generation's name of a tensor; nothing where it has that name already.
//   model.visual.*          -> visual.*   (transformers 4.52 and later, in memory; some repositories saved
//   so) model.language_model.*  -> model.* language_model.*, embed_tokens.*, layers.*, norm.*  -> model.* (a
//   bare Qwen2VLModel)
std::optional<std::string> first_generation(std::string_view name);
}  // namespace names

// Of all that decides what the model computes: config, tensors, type.
base::Digest fingerprint(const Config& config, const weights::StateDict& weights, const ModelInfo& info);
// Of all that decides what the vision tower computes; `weights` below "visual.".
base::Digest vision_fingerprint(const VisionConfig& config, const weights::StateDict& weights,
                                const ModelInfo& info);
// Of the same settings and the memory of the tower's tensors, which have been taken out of `weights`.
base::Digest vision_identity(const VisionConfig& config, const weights::StateDict& weights,
                             const ModelInfo& info);

}  // namespace tte::models::qwen2_vl
