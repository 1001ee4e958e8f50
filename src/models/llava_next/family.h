// LLaVA-NeXT: a CLIP tower that sees images in tiles, and a decoder of Llama or Mistral.
#pragma once

#include "models/family.h"

namespace tte::models::llava_next {

Family family();

}  // namespace tte::models::llava_next
