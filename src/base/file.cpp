#include "base/file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "base/printable.h"
#include "base/utf8.h"
#include "tte/error.h"

namespace tte::base {
namespace {

std::string reason(int code) {
  return std::generic_category().message(code);
}

}  // namespace

std::string shown(const std::filesystem::path& path, std::size_t bytes) {
  const std::string& text = path.native();
  if (text.size() <= bytes) return printable(text, 4 * bytes);
  std::size_t begin = text.size() - bytes;
  while (continues_character(text, begin)) ++begin;
  return "..." + printable(std::string_view(text).substr(begin), 4 * bytes);
}

bool is_present(const std::filesystem::path& path) {
  if (path.native().find('\0') != std::string::npos) return false;
  std::error_code code;
  const auto status = std::filesystem::symlink_status(path, code);
  return status.type() != std::filesystem::file_type::not_found &&
         status.type() != std::filesystem::file_type::none;
}

File::File(const std::filesystem::path& path, std::string name, void (*fail_with)(const std::string&))
    : name_(std::move(name)), fail_(fail_with) {
  const std::string& text = path.native();
  if (text.empty()) fail("has an empty path: give the path of a file.");
  if (text.find('\0') != std::string::npos) fail("has a NUL character in its path: no file can be named so.");
  // O_NONBLOCK: opening a pipe that nobody writes to would otherwise wait for ever.
  descriptor_ = ::open(text.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor_ < 0) {
    const int code = errno;
    const bool url = text.find("://") != std::string::npos || text.starts_with("data:");
    const std::string why = code != ENOENT || url ? reason(code)
                            : is_present(path)    ? "it is a link to a file that is missing"
                                                  : "it does not exist";
    fail(fmt::format("cannot be opened: {}; {}.", why,
                     url ? "tte reads local files only, so download it first" : "check the path"));
  }
  try {
    info_ = info_now();
    if (!S_ISREG(info_.st_mode)) {
      fail(fmt::format(
          "is not a file: it is a {}.",
          S_ISDIR(info_.st_mode) ? "folder" : "pipe, socket or device; copy its content to a file first"));
    }
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

File::~File() {
  ::close(descriptor_);
}

struct stat File::info_now() const {
  struct stat info = {};
  if (::fstat(descriptor_, &info) != 0) fail(fmt::format("cannot be examined: {}.", reason(errno)));
  return info;
}

std::int64_t File::read(void* to, std::int64_t offset, std::int64_t count) const {
  std::int64_t done = 0;
  while (done < count) {
    const ssize_t n = ::pread(descriptor_, static_cast<char*>(to) + done,
                              static_cast<std::size_t>(count - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(fmt::format("cannot be read: {}.", reason(errno)));
    if (n == 0) break;
    done += n;
  }
  return done;
}

void File::fail(std::string_view why) const {
  fail_(fmt::format("{} {}", name_, why));
  std::abort();
}

std::string read_file(const std::filesystem::path& path, std::uintmax_t limit) {
  const File file(path, shown(path), throw_as<ModelError>);
  const auto size = static_cast<std::uintmax_t>(file.size());
  if (size > limit)
    file.fail(fmt::format("has {} bytes: tte reads such files of at most {} bytes.", size, limit));
  std::string bytes(size, '\0');
  // Another program may have shortened it.
  bytes.resize(static_cast<std::size_t>(file.read(bytes.data(), 0, file.size())));
  return bytes;
}

}  // namespace tte::base
