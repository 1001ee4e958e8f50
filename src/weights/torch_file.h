// Files that torch.save writes, read without running them: a zip archive of pickled structure and raw tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "weights/mapped_file.h"

namespace tte::weights {

// The lists (or tuples) of tensors in the dictionary that a file of torch.save holds, by their keys; other entries are
// left out. Tensors are float32, float16 or bfloat16 and views of the file, which they keep mapped: read-only.
//
// Only what such a dictionary needs of pickle is understood, and nothing is ever called. Throws ModelError naming the
// file for everything else: damaged files, files of torch before 1.6 and of 4 GB and more, other objects and dtypes,
// tensors that reach out of their storage.
std::map<std::string, std::vector<at::Tensor>> read_torch_file(const std::shared_ptr<const MappedFile>& file);

}  // namespace tte::weights
