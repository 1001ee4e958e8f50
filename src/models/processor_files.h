// What a checkpoint's files say of how images become pixels: the keys that transformers' processors share.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/json.h"
#include "media/patches.h"

namespace tte::models {

struct ProcessorFile {
  base::Json json;
  std::string where;  // For errors.
};

// The first of: processor_config.json's `section`, and `files` one by one; all of one folder before the next. Throws
// ModelError naming the folder when there is none of them.
ProcessorFile find_processor(const base::Checkpoint& checkpoint, const std::string& section,
                             const std::vector<std::string>& files);

// The colours that CLIP was trained with, which transformers' processors take where a file names none.
inline constexpr std::array<double, 3> kClipMean = {0.48145466, 0.4578275, 0.40821073};
inline constexpr std::array<double, 3> kClipStd = {0.26862954, 0.26130258, 0.27577711};

// image_mean, image_std, rescale_factor, do_rescale and do_normalize; what is absent stays. Throws ModelError for
// values that make no sense, and for a resample other than bicubic (3).
void read_pixels(const base::JsonObject& object, media::PatchSpec& patches);

}  // namespace tte::models
