#include "base/file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::base {
namespace {

constexpr std::size_t kShownBytes = 240;

std::string reason(int code) {
  return std::generic_category().message(code);
}

struct Descriptor {
  int value;
  explicit Descriptor(int descriptor) : value(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

}  // namespace

std::string shown(const std::filesystem::path& path) {
  const std::string& text = path.native();
  if (text.size() <= kShownBytes) return printable(text, 4 * kShownBytes);
  std::string_view end = std::string_view(text).substr(text.size() - kShownBytes);
  while (!end.empty() && (static_cast<unsigned char>(end.front()) & 0xC0) == 0x80) end.remove_prefix(1);
  return "..." + printable(end, kShownBytes);
}

bool is_present(const std::filesystem::path& path) {
  if (path.native().find('\0') != std::string::npos) return false;
  std::error_code code;
  const auto status = std::filesystem::symlink_status(path, code);
  return status.type() != std::filesystem::file_type::not_found &&
         status.type() != std::filesystem::file_type::none;
}

std::string read_file(const std::filesystem::path& path, std::uintmax_t limit) {
  const std::string name = shown(path);
  if (path.native().find('\0') != std::string::npos)
    throw ModelError(fmt::format("{} has a NUL character in its path: no file can be named so.", name));
  // O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.value < 0) {
    const int code = errno;
    if (code == ENOENT && !is_present(path)) throw ModelError(fmt::format("{} does not exist.", name));
    if (code == ENOENT)
      throw ModelError(fmt::format("{} is a link to a file that is missing: fetch it again.", name));
    throw ModelError(fmt::format("{} cannot be opened: {}.", name, reason(code)));
  }
  struct stat info = {};
  if (::fstat(file.value, &info) != 0)
    throw ModelError(fmt::format("{} cannot be examined: {}.", name, reason(errno)));
  if (!S_ISREG(info.st_mode)) {
    throw ModelError(fmt::format("{} is not a file but {}: a checkpoint consists of regular files.", name,
                                 S_ISDIR(info.st_mode) ? "a folder" : "a pipe, socket or device"));
  }
  const auto size = static_cast<std::uintmax_t>(info.st_size);
  if (size > limit) {
    throw ModelError(
        fmt::format("{} has {} bytes: tte reads such files of at most {} bytes.", name, size, limit));
  }
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(file.value, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw ModelError(fmt::format("{} cannot be read: {}.", name, reason(errno)));
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);  // Another program may have shortened it.
  return bytes;
}

}  // namespace tte::base
