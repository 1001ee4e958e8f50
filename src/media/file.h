// Reading user-named files without surprises. Internal to media/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tte::media {

// An open regular file; closes itself.
class File {
 public:
  // Throws InputError, starting with `label`, when the path holds a NUL, does not exist, cannot be read, is
  // not a regular file (a folder, pipe or device), is empty, or is larger than `max_bytes`. Never blocks.
  File(const std::filesystem::path& path, const std::string& label, std::int64_t max_bytes);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] std::int64_t size() const { return size_; }
  // Up to `count` bytes from `offset`; fewer only at the end of the file. Throws InputError when reading
  // fails.
  std::int64_t read(std::uint8_t* to, std::int64_t offset, std::int64_t count) const;
  [[nodiscard]] std::vector<std::uint8_t> read_all() const;

 private:
  std::string label_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

// The path for an error message, as base::printable shows it; of a long one the end.
std::string printable_path(const std::filesystem::path& path);

}  // namespace tte::media
