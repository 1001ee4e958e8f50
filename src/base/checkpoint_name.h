// What a checkpoint is called.
#pragma once

#include <filesystem>
#include <string>

namespace tte::base {

// The name of its folder, or of its repository where the folder is the hub's cache of one, or is a hub id.
inline std::string name_of(const std::filesystem::path& folder) {
  const auto parts = folder.has_filename() ? folder : folder.parent_path();
  const std::string cache = parts.parent_path().parent_path().filename().string();
  if (parts.parent_path().filename() == "snapshots" && cache.starts_with("models--"))
    return cache.substr(cache.rfind("--") + 2);
  return parts.filename().string();
}

}  // namespace tte::base
