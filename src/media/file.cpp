#include "media/file.h"

#include <fmt/core.h>

#include "tte/error.h"

namespace tte::media {

File::File(const std::filesystem::path& path, const std::string& label, std::int64_t max_bytes)
    : base::File(path, label, base::throw_as<InputError>) {
  if (size() == 0) fail("is empty (0 bytes); give one with content.");
  if (size() > max_bytes) {
    fail(fmt::format(
        "has {} bytes, over the limit of {}; raise max_file_bytes of MediaLimits if the file is trusted.",
        size(), max_bytes));
  }
}

std::vector<std::uint8_t> File::read_all() const {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size()));
  bytes.resize(static_cast<std::size_t>(read(bytes.data(), 0, size())));
  return bytes;
}

}  // namespace tte::media
