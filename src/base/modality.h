// What a part of a message, or a token of a prompt, is of.
#pragma once

#include <cstdint>

namespace tte::base {

enum class Modality : std::int8_t { kText, kImage, kVideo };

}  // namespace tte::base
