#include "weights/shards.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <system_error>

#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

namespace fs = std::filesystem;
using base::printable;

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kConvert =
    "load it with transformers once and write it with save_pretrained(folder), which makes safetensors";

using base::shown;

Shard open_shard(const fs::path& path) {
  Shard shard;
  shard.file = MappedFile::open(path);
  shard.tensors = read_safetensors(shard.file->bytes(), shard.file->name());
  return shard;
}

// A shard's file name may not lead out of the folder of its index. Decided by its text: hub caches are full
// of symbolic links, whose targets are the user's business.
bool stays_inside(const fs::path& name) {
  if (name.empty() || name.is_absolute() || !name.has_filename()) return false;
  for (const auto& part : name) {
    if (part == "..") return false;
  }
  return name.string().find('\0') == std::string::npos;
}

// The weight_map of an index: shard file -> names of its tensors, which are then crossed out.
std::map<std::string, std::map<std::string, bool, std::less<>>> read_index(const fs::path& path) {
  const base::JsonObject index = base::read_json_object(path);
  const std::string where = shown(path);
  const base::Json* weight_map = index.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty()) {
    throw ModelError(fmt::format("{} has no weight_map from tensors to files.", where));
  }
  std::map<std::string, std::map<std::string, bool, std::less<>>> shards;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !stays_inside(file.get_ref<const std::string&>())) {
      throw ModelError(
          fmt::format("{} places tensor \"{}\" in {}, which is not the name of a file in its folder.", where,
                      printable(tensor), shown(file, 200)));
    }
    shards[file.get<std::string>()][tensor] = false;
  }
  return shards;
}

std::vector<Shard> open_index(const fs::path& path) {
  const std::string where = shown(path);
  std::vector<Shard> shards;
  for (auto& [name, expected] : read_index(path)) {
    const fs::path file = path.parent_path() / name;
    if (!base::is_present(file)) {
      throw ModelError(fmt::format("{} is missing: {} names it as a part of the checkpoint; fetch it.",
                                   shown(file), where));
    }
    Shard shard = open_shard(file);
    for (const auto& tensor : shard.tensors) {
      const auto it = expected.find(tensor.name);
      if (it == expected.end()) {
        throw ModelError(
            fmt::format("{} holds tensor \"{}\", which {} does not place there: the files do not belong "
                        "together.",
                        shard.file->name(), printable(tensor.name), where));
      }
      it->second = true;
    }
    for (const auto& [tensor, found] : expected) {
      if (!found) {
        throw ModelError(
            fmt::format("{} lacks tensor \"{}\", which {} places there: the files do not belong together.",
                        shard.file->name(), printable(tensor), where));
      }
    }
    shards.push_back(std::move(shard));
  }
  return shards;
}

bool is_pickle(const fs::path& path) {
  const auto extension = path.extension();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt";
}

// Says what a folder without safetensors of the usual name holds instead.
[[noreturn]] void fail_folder(const fs::path& folder) {
  std::error_code failure;
  std::vector<fs::path> names;
  for (fs::directory_iterator it(folder, failure), end; !failure && it != end; it.increment(failure))
    names.push_back(it->path().filename());
  std::sort(names.begin(), names.end());
  const auto first = [&](const auto& wanted) {
    const auto it = std::find_if(names.begin(), names.end(), wanted);
    return it == names.end() ? std::string() : shown(*it);
  };
  const std::string other = first([](const fs::path& name) { return name.extension() == ".safetensors"; });
  const std::string pickled =
      first([](const fs::path& name) { return is_pickle(name) || name == "pytorch_model.bin.index.json"; });
  const std::string gguf = first([](const fs::path& name) { return name.extension() == ".gguf"; });
  if (!other.empty()) {
    throw ModelError(
        fmt::format("{} has neither {} nor {}, but {}: name that file itself if it is the checkpoint.",
                    shown(folder), kSingle, kIndex, other));
  }
  if (!pickled.empty()) {
    throw ModelError(fmt::format("{} holds pickled weights ({}), which tte does not read: {}.", shown(folder),
                                 pickled, kConvert));
  }
  if (!gguf.empty()) {
    throw ModelError(
        fmt::format("{} holds weights for llama.cpp ({}), which tte does not read: use the folder "
                    "with the original safetensors.",
                    shown(folder), gguf));
  }
  throw ModelError(fmt::format("{} has neither {} nor {}: it is not the folder of a checkpoint.",
                               shown(folder), kSingle, kIndex));
}

}  // namespace

std::vector<Shard> open_checkpoint(const fs::path& path) {
  std::error_code ignored;
  const auto status = fs::status(path, ignored);
  if (!fs::exists(status)) throw ModelError(fmt::format("{} does not exist.", shown(path)));
  std::vector<Shard> shards;
  if (fs::is_directory(status)) {
    if (base::is_present(path / kSingle)) {
      shards.push_back(open_shard(path / kSingle));
    } else if (base::is_present(path / kIndex)) {
      shards = open_index(path / kIndex);
    } else {
      fail_folder(path);
    }
  } else if (path.extension() == ".json") {
    shards = open_index(path);
  } else if (is_pickle(path)) {
    throw ModelError(
        fmt::format("{} holds pickled weights, which tte does not read: {}.", shown(path), kConvert));
  } else {
    shards.push_back(open_shard(path));
  }
  return shards;
}

}  // namespace tte::weights
