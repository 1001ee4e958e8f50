// preprocessor_config.json and its kin into a PatchSpec.
#pragma once

#include <string>

#include "base/json.h"
#include "media/patches.h"

namespace tte::media {

// Reads the keys that transformers' Qwen2-VL processors know. The pixel limits stand under min_pixels /
// max_pixels, under size.{shortest_edge, longest_edge}, or (older) under size.{min_pixels, max_pixels}; as in
// transformers the first of them wins, and a "size" that lacks one of its two keys gives no default for it.
// Absent keys keep the value of `defaults`. Throws ModelError naming `where` for values that make no sense,
// and for a resample other than bicubic (3).
PatchSpec parse_patch_spec(const base::Json& json, const std::string& where, const PatchSpec& defaults = {});

}  // namespace tte::media
