// Qwen3.5: a vision tower, and a decoder most of whose layers keep a memory of fixed size instead of keys and values.
#pragma once

#include "models/family.h"

namespace tte::models::qwen3_5 {

Family family();
// The text model alone.
Family text_family();

}  // namespace tte::models::qwen3_5
