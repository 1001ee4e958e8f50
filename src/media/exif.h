// The one EXIF field that changes pixels: orientation. Internal to media/.
#pragma once

#include "media/codec.h"

namespace tte::media {

// Orientation (1 to 8) of an EXIF block (a TIFF structure, with or without the "Exif\0\0" prefix). 0 when the
// block does not say; a damaged block counts as not saying.
int exif_orientation(Bytes exif);

// Orientation of an XMP packet (tiff:Orientation), or 0. Pillow looks there when EXIF does not say.
int xmp_orientation(Bytes xmp);

// The first that says something usable, else 1.
int choose_orientation(Bytes exif, Bytes xmp);

// uint8 [height, width, channels] turned upright.
at::Tensor apply_orientation(const at::Tensor& pixels, int orientation);

}  // namespace tte::media
