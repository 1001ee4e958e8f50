#include "media/file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::media {
namespace {

[[noreturn]] void fail(const std::string& label, const std::string& why) {
  throw InputError(fmt::format("{} {}", label, why));
}

std::string error_text(int code) {
  return std::generic_category().message(code);
}

}  // namespace

File::File(const std::filesystem::path& path, const std::string& label, std::int64_t max_bytes)
    : label_(label) {
  const std::string& name = path.native();
  if (name.empty()) fail(label, "has an empty path; give the path of a file.");
  if (name.find('\0') != std::string::npos)
    fail(label, "has a NUL character in its path; no file can be named so.");
  // O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever.
  descriptor_ = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor_ < 0) {
    const int code = errno;
    const bool url = name.find("://") != std::string::npos || name.starts_with("data:");
    fail(label, fmt::format("cannot be opened: {}{}.", error_text(code),
                            url ? "; tte reads local files only, so download it first" : "; check the path"));
  }
  struct stat info {};
  std::string why;
  if (::fstat(descriptor_, &info) != 0) {
    why = fmt::format("cannot be examined: {}.", error_text(errno));
  } else if (S_ISDIR(info.st_mode)) {
    why = "is a folder, not a file.";
  } else if (!S_ISREG(info.st_mode)) {
    why = "is a pipe, socket or device, not a regular file; copy its content to a file first.";
  } else if (info.st_size == 0) {
    why = "is empty (0 bytes).";
  } else if (info.st_size > max_bytes) {
    why = fmt::format(
        "has {} bytes, over the limit of {}; raise max_file_bytes of MediaLimits if the file is trusted.",
        static_cast<std::int64_t>(info.st_size), max_bytes);
  }
  if (!why.empty()) {
    ::close(descriptor_);
    fail(label, why);
  }
  size_ = info.st_size;
}

File::~File() {
  ::close(descriptor_);
}

std::int64_t File::read(std::uint8_t* to, std::int64_t offset, std::int64_t count) const {
  std::int64_t done = 0;
  while (done < count) {
    const ssize_t n = ::pread(descriptor_, to + done, static_cast<std::size_t>(count - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(label_, fmt::format("cannot be read: {}.", error_text(errno)));
    if (n == 0) break;
    done += n;
  }
  return done;
}

std::vector<std::uint8_t> File::read_all() const {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size_));
  bytes.resize(static_cast<std::size_t>(read(bytes.data(), 0, size_)));
  return bytes;
}

std::string printable_path(const std::filesystem::path& path) {
  constexpr std::size_t kShown = 160;
  std::string_view name = path.native();
  if (name.size() <= kShown) return base::printable(name, 4 * kShown);
  name.remove_prefix(name.size() - kShown);
  while (!name.empty() && (static_cast<unsigned char>(name.front()) & 0xc0) == 0x80) name.remove_prefix(1);
  return "..." + base::printable(name, 4 * kShown);
}

}  // namespace tte::media
