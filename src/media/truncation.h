// Tells whether a video file was cut off, which FFmpeg plays up to the cut. Internal to media/.
#pragma once

#include <string_view>

#include "media/file.h"

namespace tte::media {

// Whether a file of FFmpeg's input format `format` is shorter than it says: a size, an index or a duration in
// it reaches past its end, it ends within an element, or a format that marks its end has no mark. Where nothing
// tells, as between two packets of an MPEG stream or two fragments of an MP4 without an index, it is not.
bool is_cut(const File& file, std::string_view format);

}  // namespace tte::media
