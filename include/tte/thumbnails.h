/// @file
/// Small copies of images and videos, for people to look at.
#pragma once

#include <vector>

#include "tte/export.h"
#include "tte/input.h"

namespace tte {

/// RGB copies of an image, or of up to `frames` frames of a video evenly spread from its first to its last,
/// upright, none larger than `side` x `side` pixels (1 to 1024) and none enlarged; none of a text. They are
/// made by the decoders that the models' input goes through, under the same limits: what a model would refuse
/// is refused here. Throws InputError naming the file.
TTE_API std::vector<Pixels> thumbnails(const Part& part, int side, int frames = 4);

}  // namespace tte
