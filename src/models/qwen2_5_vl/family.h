// Qwen2.5-VL: a vision tower that sees windows and frames, and a decoder with M-RoPE.
#pragma once

#include "models/family.h"

namespace tte::models::qwen2_5_vl {

Family family();

}  // namespace tte::models::qwen2_5_vl
