// From what a caller names to the files that hold its tensors.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "weights/mapped_file.h"
#include "weights/safetensors.h"

namespace tte::weights {

struct Shard {
  std::shared_ptr<const MappedFile> file;
  std::vector<StoredTensor> tensors;
};

// The shards of a .safetensors file, of a model.safetensors.index.json, or of a folder that has one of them
// (as in transformers, model.safetensors wins when both are there). No tensor name is in two shards, and an
// index and its shards agree on every name. Throws ModelError naming the file for everything else; for a
// pickled checkpoint it says how to convert it.
std::vector<Shard> open_checkpoint(const std::filesystem::path& path);

}  // namespace tte::weights
