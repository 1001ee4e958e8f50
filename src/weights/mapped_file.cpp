#include "weights/mapped_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

std::string system_reason() {
  return std::generic_category().message(errno);
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const std::shared_ptr<MappedFile> file(new MappedFile);
  file->name_ = base::printable(path.string(), 1000);
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
  file->identity_ = base::Digester()
                        .number(static_cast<std::int64_t>(info.st_dev))
                        .number(static_cast<std::int64_t>(info.st_ino))
                        .number(info.st_size)
                        .number(info.st_mtim.tv_sec)
                        .number(info.st_mtim.tv_nsec)
                        .number(info.st_ctim.tv_sec)
                        .number(info.st_ctim.tv_nsec)
                        .finish();
  return file;
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
}

void MappedFile::will_need(std::size_t begin, std::size_t size) const {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t start = begin / page * page;
  // A hint: what the system makes of it does not matter.
  if (size != 0) ::madvise(const_cast<char*>(data_) + start, begin + size - start, MADV_WILLNEED);
}

}  // namespace tte::weights
