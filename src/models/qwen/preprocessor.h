// The Preprocessor of Qwen families whose placeholders each become one grid of tokens.
#pragma once

#include <memory>

#include "models/preprocessor.h"
#include "models/qwen/placeholders.h"
#include "models/qwen/processor_config.h"

namespace tte::models::qwen {

std::shared_ptr<const Preprocessor> make_preprocessor(const VisualSpecs& specs,
                                                      const PlaceholderTokens& tokens, TimeStep time_step);

}  // namespace tte::models::qwen
