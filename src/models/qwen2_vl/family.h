// Qwen2-VL: a vision tower and a decoder with M-RoPE.
#pragma once

#include "models/family.h"

namespace tte::models::qwen2_vl {

Family family();

}  // namespace tte::models::qwen2_vl
