// The preprocessor files of a Qwen vision-language checkpoint, wherever its generation keeps them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/json.h"
#include "models/qwen/sizes.h"

namespace tte::models::qwen {

struct VisualSpecs {
  VisualSpec image, video;
};

// transformers' defaults for a checkpoint that has no video_preprocessor_config.json entries of its own.
VisualSpec default_video_spec();

// Reads the keys that transformers' Qwen2-VL processors know. The pixel limits stand under min_pixels /
// max_pixels, under size.{shortest_edge, longest_edge}, or (older) under size.{min_pixels, max_pixels}; as in
// transformers the first of them wins, and a "size" that lacks one of its two keys gives no default for it.
// Absent keys keep the value of `defaults`. Throws ModelError naming `where` for values that make no sense,
// and for a resample other than bicubic (3).
VisualSpec parse_visual_spec(const base::Json& json, const std::string& where,
                             const VisualSpec& defaults = {});

// Reads, in transformers' order of preference,
//   images: processor_config.json's "image_processor", else preprocessor_config.json;
//   videos: processor_config.json's "video_processor", else video_preprocessor_config.json, else
//           preprocessor_config.json.
// Throws ModelError naming the folder when there is none of them, and the file whose patch_size, merge_size
// or temporal_patch_size is not that of `tower` (what the vision tower of config.json reads).
VisualSpecs load_visual_specs(const std::filesystem::path& checkpoint, const media::PatchSpec& tower);

}  // namespace tte::models::qwen
