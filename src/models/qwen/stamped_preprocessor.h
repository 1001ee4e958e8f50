// The Preprocessor of Qwen families that write the time of each pair of a video's frames into the prompt.
#pragma once

#include <memory>

#include "base/checkpoint.h"
#include "models/preprocessor.h"
#include "models/qwen/placeholders.h"
#include "models/qwen/processor_config.h"

namespace tte::models::qwen {

std::shared_ptr<const Preprocessor> make_stamped_preprocessor(const VisualSpecs& specs,
                                                              const PlaceholderTokens& tokens);

// Config is what the family reads config.json into.
template <typename Config>
std::shared_ptr<const Preprocessor> load_stamped_preprocessor(const base::Checkpoint& checkpoint,
                                                              const Config& config) {
  return make_stamped_preprocessor(load_visual_specs(checkpoint, config.vision.patch_spec(),
                                                     default_sampled_video_spec(), LimitKeys::kSize),
                                   config.tokens);
}

}  // namespace tte::models::qwen
