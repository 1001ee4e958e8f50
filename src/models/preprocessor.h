// The preprocessor files of a checkpoint, wherever its generation keeps them.
#pragma once

#include <filesystem>

#include "media/patches.h"

namespace tte::models {

struct PatchSpecs {
  media::PatchSpec image, video;
};

// Reads, in transformers' order of preference,
//   images: processor_config.json's "image_processor", else preprocessor_config.json;
//   videos: processor_config.json's "video_processor", else video_preprocessor_config.json, else
//           preprocessor_config.json.
// Throws ModelError naming the folder when there is none of them, and the file whose patch_size, merge_size
// or temporal_patch_size is not that of `tower` (what the vision tower of config.json reads).
PatchSpecs load_patch_specs(const std::filesystem::path& checkpoint, const media::PatchSpec& tower);

}  // namespace tte::models
