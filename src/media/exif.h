// The one EXIF field that changes pixels: orientation. Internal to media/.
#pragma once

#include <optional>

#include "media/codec.h"

namespace tte::media {

// Orientation that an EXIF block or a TIFF file (with or without the "Exif\0\0" prefix) tells, as Pillow reads it:
// that of the first such field that is whole, of any type of numbers. 0 where its value is none of 1 to 8 and where the
// block is no TIFF structure; nothing where it does not say.
std::optional<int> exif_orientation(Bytes exif);

// Orientation of an XMP packet (tiff:Orientation), or 0. Pillow looks there where EXIF does not say.
int xmp_orientation(Bytes xmp);

// What EXIF says, else XMP; 1 where that is none of 1 to 8.
int choose_orientation(Bytes exif, Bytes xmp);

// uint8 [height, width, channels] turned upright.
at::Tensor apply_orientation(const at::Tensor& pixels, int orientation);

}  // namespace tte::media
