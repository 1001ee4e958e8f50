// Qwen3-VL: a vision tower whose middle blocks also reach the first layers of a decoder with M-RoPE.
#pragma once

#include "models/family.h"

namespace tte::models::qwen3_vl {

Family family();

}  // namespace tte::models::qwen3_vl
