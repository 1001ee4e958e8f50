// Text, image or video: of which of them a part of a message, or a token of a prompt, is.
#pragma once

#include <cstdint>

namespace tte::base {

enum class Modality : std::int8_t { kText, kImage, kVideo };

}  // namespace tte::base
