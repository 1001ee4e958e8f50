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

  [[nodiscard]] std::vector<std::uint8_t> read_all() const;
};

// The path for an error message.
inline std::string printable_path(const std::filesystem::path& path) {
  return base::shown(path, 160);
}

}  // namespace tte::media
