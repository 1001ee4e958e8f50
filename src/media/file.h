// Files of images and videos. Internal to media/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"

namespace tte::media {

class File : public base::File {
 public:
  // Throws InputError, starting with `label`, as base::File does, and for a file that is empty or larger than
  // `max_bytes`.
  File(const std::filesystem::path& path, const std::string& label, std::int64_t max_bytes);

  // The same for the same file, by whatever name it was opened.
  [[nodiscard]] std::uint64_t identity() const {
    return static_cast<std::uint64_t>(info().st_dev) * 0x9E3779B97F4A7C15U + info().st_ino;
  }
  [[nodiscard]] std::vector<std::uint8_t> read_all() const;
};

// The path for an error message.
inline std::string printable_path(const std::filesystem::path& path) {
  return base::shown(path, 160);
}

}  // namespace tte::media
