/// @file
/// Think-Then-Embed: everything but tte/torch.h.
#pragma once

#include "tte/adapter.h"           // IWYU pragma: export
#include "tte/backend.h"           // IWYU pragma: export
#include "tte/embedder.h"          // IWYU pragma: export
#include "tte/error.h"             // IWYU pragma: export
#include "tte/input.h"             // IWYU pragma: export
#include "tte/options.h"           // IWYU pragma: export
#include "tte/processor.h"         // IWYU pragma: export
#include "tte/quantize.h"          // IWYU pragma: export
#include "tte/reasoner.h"          // IWYU pragma: export
#include "tte/remote.h"            // IWYU pragma: export
#include "tte/tensor_info.h"       // IWYU pragma: export
#include "tte/think_then_embed.h"  // IWYU pragma: export
#include "tte/thumbnails.h"        // IWYU pragma: export
#include "tte/token_embeddings.h"  // IWYU pragma: export
#include "tte/tokenizer.h"         // IWYU pragma: export
#include "tte/trace.h"             // IWYU pragma: export
#include "tte/version.h"           // IWYU pragma: export
