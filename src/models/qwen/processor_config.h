// The preprocessor files of a Qwen vision-language checkpoint, wherever its generation keeps them.
#pragma once

#include <cstdint>
#include <string>

#include "base/checkpoint.h"
#include "base/json.h"
#include "models/qwen/sizes.h"

namespace tte::models::qwen {

struct VisualSpecs {
  VisualSpec image, video;
};

// transformers' defaults for a checkpoint that has no video_preprocessor_config.json entries of its own.
VisualSpec default_video_spec();          // Qwen2-VL, Qwen2.5-VL.
VisualSpec default_sampled_video_spec();  // Qwen3-VL, which samples.

// The keys that pixel limits stand under.
enum class LimitKeys : std::uint8_t { kAll, kSize };

// Reads the keys that transformers' Qwen2-VL processors know. The pixel limits stand under min_pixels /
// max_pixels, under size.{shortest_edge, longest_edge}, or (older) under size.{min_pixels, max_pixels}; as in
// transformers the first of them wins, and where "size" lacks one of its two keys, that limit keeps no default.
// With LimitKeys::kSize only "size" counts, as for transformers' Qwen3VLVideoProcessor. The keys of sampling
// (do_sample_frames, fps, num_frames, min_frames, max_frames) count if `defaults` sample.
// Absent keys keep the value of `defaults`. Throws ModelError naming `where` for values that make no sense,
// and for a resample other than bicubic (3).
VisualSpec parse_visual_spec(const base::Json& json, const std::string& where,
                             const VisualSpec& defaults = {}, LimitKeys keys = LimitKeys::kAll);

// Reads, in transformers' order of preference,
//   images: processor_config.json's "image_processor", else preprocessor_config.json;
//   videos: processor_config.json's "video_processor", else video_preprocessor_config.json, else
//           preprocessor_config.json.
// Throws ModelError naming the folder when there is none of them, and the file whose patch_size, merge_size
// or temporal_patch_size is not that of `tower` (what the vision tower of config.json reads).
VisualSpecs load_visual_specs(const base::Checkpoint& checkpoint, const media::PatchSpec& tower,
                              const VisualSpec& video_defaults = default_video_spec(),
                              LimitKeys video_keys = LimitKeys::kAll);

}  // namespace tte::models::qwen
