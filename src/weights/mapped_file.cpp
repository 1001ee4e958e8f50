#include "weights/mapped_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <mutex>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

std::string system_reason() {
  return std::generic_category().message(errno);
}

// All mappings there are.
struct Live {
  std::mutex mutex;
  std::vector<std::weak_ptr<const MappedFile>> files;
};
Live& live() {
  static auto* const instance = new Live;  // Outlives static models.
  return *instance;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const std::shared_ptr<MappedFile> file(new MappedFile);
  file->name_ = base::shown(path);
  if (path.native().find('\0') != std::string::npos)
    throw ModelError(
        fmt::format("{} has a NUL character in its path: no file can be named so.", file->name_));
  // Non-blocking, so that a named pipe in the place of a file is an error rather than a wait.
  file->descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file->descriptor_ < 0) {
    throw ModelError(fmt::format("{} cannot be opened: {}.", file->name_, system_reason()));
  }
  struct stat info = {};
  if (::fstat(file->descriptor_, &info) != 0) {
    throw ModelError(fmt::format("{} cannot be examined: {}.", file->name_, system_reason()));
  }
  if (!S_ISREG(info.st_mode)) {
    throw ModelError(fmt::format("{} is not a file: weights are read from regular files.", file->name_));
  }
  if (info.st_size == 0) {
    throw ModelError(fmt::format("{} is empty: its download did not finish; fetch it again.", file->name_));
  }
  file->size_ = static_cast<std::size_t>(info.st_size);
  void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, file->descriptor_, 0);
  if (data == MAP_FAILED) {
    throw ModelError(fmt::format("{} cannot be mapped into memory: {}.", file->name_, system_reason()));
  }
  file->data_ = static_cast<const char*>(data);
  file->modified_ = info.st_mtim;
  file->changed_ = info.st_ctim;
  file->identity_ = base::Digester()
                        .number(static_cast<std::int64_t>(info.st_dev))
                        .number(static_cast<std::int64_t>(info.st_ino))
                        .number(info.st_size)
                        .number(info.st_mtim.tv_sec)
                        .number(info.st_mtim.tv_nsec)
                        .number(info.st_ctim.tv_sec)
                        .number(info.st_ctim.tv_nsec)
                        .finish();
  const std::lock_guard lock(live().mutex);
  std::erase_if(live().files, [](const auto& other) { return other.expired(); });
  live().files.push_back(file);
  return file;
}

std::shared_ptr<const MappedFile> MappedFile::containing(const void* address) {
  const auto* at = static_cast<const char*>(address);
  const std::lock_guard lock(live().mutex);
  for (const auto& weak : live().files) {
    auto file = weak.lock();
    if (file && std::greater_equal<>()(at, file->data_) && std::less<>()(at, file->data_ + file->size_))
      return file;
  }
  return nullptr;
}

bool MappedFile::is_settled() const {
  constexpr std::time_t kSeconds = 2;
  const std::time_t now = std::time(nullptr);
  return modified_.tv_sec + kSeconds < now && changed_.tv_sec + kSeconds < now;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MappedFile::check_unchanged() const {
  struct stat info = {};
  if (::fstat(descriptor_, &info) != 0) {
    throw ModelError(fmt::format("{} cannot be examined any more: {}.", name_, system_reason()));
  }
  if (static_cast<std::size_t>(info.st_size) < size_) {
    throw ModelError(fmt::format(
        "{} was shortened from {} to {} bytes after it was opened: load it again once it is complete.", name_,
        size_, info.st_size));
  }
  if (static_cast<std::size_t>(info.st_size) != size_ || info.st_mtim.tv_sec != modified_.tv_sec ||
      info.st_mtim.tv_nsec != modified_.tv_nsec) {
    throw ModelError(
        fmt::format("{} was written to after it was opened: load it again; to replace weights "
                    "that are in use, write a new file and rename it.",
                    name_));
  }
}

void MappedFile::will_need(std::size_t begin, std::size_t size) const {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t start = begin / page * page;
  // A hint: what the system makes of it does not matter.
  if (size != 0) ::madvise(const_cast<char*>(data_) + start, begin + size - start, MADV_WILLNEED);
}

}  // namespace tte::weights
