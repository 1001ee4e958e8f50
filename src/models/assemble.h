// A model made of its parts: a language model, and what its family sees with.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/digest.h"
#include "models/biases.h"
#include "models/language_model.h"
#include "models/model.h"
#include "models/tensor_names.h"
#include "weights/state_dict.h"

namespace tte::models {

// const and thread-compatible.
class VisionEncoder {
 public:
  virtual ~VisionEncoder() = default;
  // [merged patches, columns] of each visual, in the weights' type on their device. Throws InputError for
  // patches of another shape than the tower's.
  [[nodiscard]] virtual std::vector<at::Tensor> operator()(
      std::span<const std::shared_ptr<const Visual>> visuals) const = 0;
};

// What a family says of itself.
struct Parts {
  std::string family;  // config.json's model_type
  std::string file;    // config.json, for errors.
  TextConfig text;
  std::int64_t deepstack = 0;  // See LanguageModel.
  std::int64_t image_token = -1, video_token = -1;
  Rename rename = first_generation;
  // Makes the tower from the weights below kVisionPrefix; null for a model of text only.
  std::function<std::unique_ptr<const VisionEncoder>(const weights::StateDict& weights)> vision;
  // Adds every setting that decides what the tower computes.
  std::function<void(base::Digester& digester)> add_vision;
  std::vector<BiasRule> biases = {};  // Of layers beside the text model's.
  std::vector<std::string> unread;    // What names of tensors begin with that are not needed.
};

// The checkpoint's tensors must all be used, but for Parts::unread and inv_freq of old tools.
std::shared_ptr<const Model> assemble(const base::Checkpoint& checkpoint, const ModelOptions& options,
                                      Parts parts);

}  // namespace tte::models
