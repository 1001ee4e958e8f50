// What the tensors of a file hold, as digests that are worked out once per file and machine.
#pragma once

#include <vector>

#include "base/digest.h"
#include "weights/mapped_file.h"
#include "weights/safetensors.h"

namespace tte::weights {

// Whether digests are remembered: of large files that did not change just now, of all, or of none.
enum class Keep { kWhereUseful, kAlways, kNever };

// Digests over all bytes of each tensor. Reading a large file takes seconds, so the result is remembered by
// the file's identity (device, inode, size, times) in the user's cache folder: $XDG_CACHE_HOME/tte/digests,
// or ~/.cache/tte/digests. A folder that cannot be read or written only costs the time. Throws ModelError
// when the file has changed since it was opened.
std::vector<base::Digest> content_digests(const MappedFile& file, const std::vector<StoredTensor>& tensors,
                                          Keep keep = Keep::kWhereUseful);

}  // namespace tte::weights
