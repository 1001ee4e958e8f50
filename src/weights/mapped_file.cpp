#include "weights/mapped_file.h"

#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <functional>
#include <mutex>
#include <system_error>
#include <vector>

#include "tte/error.h"

namespace tte::weights {
namespace {

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

MappedFile::MappedFile(const std::filesystem::path& path)
    : file_(path, base::shown(path), base::throw_as<ModelError>),
      size_(static_cast<std::size_t>(file_.size())) {
  if (size_ == 0) file_.fail("is empty: its download did not finish; fetch it again.");
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file_.descriptor(), 0);
  if (data == MAP_FAILED) {
    file_.fail(fmt::format("cannot be mapped into memory: {}.", std::generic_category().message(errno)));
  }
  data_ = static_cast<const char*>(data);
  const struct stat& info = file_.info();
  identity_ = base::Digester()
                  .number(static_cast<std::int64_t>(info.st_dev))
                  .number(static_cast<std::int64_t>(info.st_ino))
                  .number(info.st_size)
                  .number(info.st_mtim.tv_sec)
                  .number(info.st_mtim.tv_nsec)
                  .number(info.st_ctim.tv_sec)
                  .number(info.st_ctim.tv_nsec)
                  .finish();
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  std::shared_ptr<const MappedFile> file(new MappedFile(path));
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
  // Its content, or anything about it.
  return file_.info().st_mtim.tv_sec + kSeconds < now && file_.info().st_ctim.tv_sec + kSeconds < now;
}

MappedFile::~MappedFile() {
  ::munmap(const_cast<char*>(data_), size_);
}

void MappedFile::check_unchanged() const {
  const struct stat& then = file_.info();
  const struct stat now = file_.info_now();
  if (now.st_size < then.st_size) {
    file_.fail(fmt::format(
        "was shortened from {} to {} bytes after it was opened: load it again once it is complete.",
        then.st_size, now.st_size));
  }
  if (now.st_size != then.st_size || now.st_mtim.tv_sec != then.st_mtim.tv_sec ||
      now.st_mtim.tv_nsec != then.st_mtim.tv_nsec) {
    file_.fail(
        "was written to after it was opened: load it again; to replace weights that are in use, write a new "
        "file "
        "and rename it.");
  }
}

void MappedFile::will_need(std::size_t begin, std::size_t size) const {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t start = begin / page * page;
  // A hint: what the system makes of it does not matter.
  if (size != 0) ::madvise(const_cast<char*>(data_) + start, begin + size - start, MADV_WILLNEED);
}

void MappedFile::let_go(std::size_t begin, std::size_t size) const {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  // Pages that lie in the range as a whole. They are the file's, and are read from it again where they are in use.
  const std::size_t start = (begin + page - 1) / page * page, end = (begin + size) / page * page;
  if (start < end) ::madvise(const_cast<char*>(data_) + start, end - start, MADV_DONTNEED);
}

}  // namespace tte::weights
