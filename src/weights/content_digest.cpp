#include "weights/content_digest.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

#include "base/file.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kWorthKeeping = std::size_t{4} << 20;  // Bytes of a file; smaller ones are read again.
constexpr std::size_t kDigestBytes = 16;

std::optional<fs::path> cache_folder() {
  // As the XDG specification says: a relative path counts as none.
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && fs::path(cache).is_absolute()) return fs::path(cache) / "tte" / "digests";
  const char* home = std::getenv("HOME");
  if (home != nullptr && fs::path(home).is_absolute()) return fs::path(home) / ".cache" / "tte" / "digests";
  return std::nullopt;
}

void append(std::string& out, const base::Digest& digest) {
  char bytes[kDigestBytes];
  std::memcpy(bytes, &digest.low, 8);
  std::memcpy(bytes + 8, &digest.high, 8);
  out.append(bytes, kDigestBytes);
}

base::Digest digest_at(const std::string& bytes, std::size_t at) {
  base::Digest digest;
  std::memcpy(&digest.low, bytes.data() + at, 8);
  std::memcpy(&digest.high, bytes.data() + at + 8, 8);
  return digest;
}

base::Digest checksum(const char* data, std::size_t size) {
  return base::Digester().text("tensor digests, 1").bytes(data, size).finish();
}

// What is remembered: the digests, and a checksum over them.
std::optional<std::vector<base::Digest>> recall(const fs::path& path, std::size_t count) {
  if (!base::is_present(path)) return std::nullopt;
  std::string bytes;
  try {
    bytes = base::read_file(path, (count + 1) * kDigestBytes);
  } catch (const ModelError&) {
    return std::nullopt;
  }
  if (bytes.size() != (count + 1) * kDigestBytes) return std::nullopt;
  const std::size_t end = count * kDigestBytes;
  if (digest_at(bytes, end) != checksum(bytes.data(), end)) return std::nullopt;
  std::vector<base::Digest> digests;
  for (std::size_t at = 0; at < end; at += kDigestBytes) digests.push_back(digest_at(bytes, at));
  return digests;
}

// Written beside its place and renamed, so that nobody ever reads half of it.
void remember(const fs::path& path, const std::vector<base::Digest>& digests) {
  std::string bytes;
  for (const base::Digest& digest : digests) append(bytes, digest);
  append(bytes, checksum(bytes.data(), bytes.size()));
  std::error_code ignored;
  fs::create_directories(path.parent_path(), ignored);
  std::string name = path.string() + ".XXXXXX";
  const int file = ::mkostemp(name.data(), O_CLOEXEC);
  if (file < 0) return;
  bool written = ::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  written = ::close(file) == 0 && written;
  if (!written || ::rename(name.c_str(), path.c_str()) != 0) ::unlink(name.c_str());
}

}  // namespace

std::vector<base::Digest> content_digests(const MappedFile& file, const std::vector<StoredTensor>& tensors,
                                          Keep keep) {
  file.check_unchanged();
  // Within the resolution of file times a later change would not show.
  const bool useful = file.bytes().size() >= kWorthKeeping && file.is_settled();
  const bool kept = keep == Keep::kAlways || (keep == Keep::kWhereUseful && useful);
  const auto folder = kept ? cache_folder() : std::nullopt;
  const fs::path path = folder ? *folder / file.identity().hex() : fs::path();
  if (folder) {
    if (auto known = recall(path, tensors.size())) return *known;
  }
  std::vector<base::Digest> digests;
  for (const StoredTensor& tensor : tensors) {
    digests.push_back(base::Digester().bytes(file.bytes().data() + tensor.begin, tensor.size).finish());
    file.check_unchanged();
  }
  if (folder) remember(path, digests);
  return digests;
}

}  // namespace tte::weights
