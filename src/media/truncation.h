// Cut video files that FFmpeg plays up to the cut. Internal to media/.
#pragma once

#include "media/file.h"

namespace tte::media {

// Whether a Matroska or WebM file is shorter than its segment says.
bool is_cut_matroska(const File& file);

// Whether an MPEG transport stream ends within a packet. Nothing in the stream says where it should end, so
// that a cut between two packets cannot be told from an end.
bool is_cut_transport_stream(const File& file);

}  // namespace tte::media
