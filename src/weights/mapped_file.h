// A file read through the page cache: nothing is copied until it is looked at, and two processes share the pages.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/file.h"

namespace tte::weights {

// Maps a regular file, read-only and private. A file that another program shortens while it is mapped cannot
// be read safely by anybody (the system ends the process that touches a page which is gone):
// check_unchanged() notices what happened before it, but not what happens after. Replace checkpoints by
// renaming, never by writing into them.
class MappedFile {
 public:
  // Throws ModelError naming the file when it is missing, not a regular file, empty or unreadable.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::string_view bytes() const { return {data_, size_}; }
  [[nodiscard]] const std::string& name() const { return file_.name(); }  // The path, fit for messages.
  // Equal for two mappings of one file that was not written to in between.
  [[nodiscard]] const base::Digest& identity() const { return identity_; }
  // Throws ModelError when the file has another size or modification time than when it was opened. One system call.
  void check_unchanged() const;
  // Whether its times are old enough for every later change to show in them.
  [[nodiscard]] bool is_settled() const;
  // The live mapping in which `address` lies; null when there is none.
  static std::shared_ptr<const MappedFile> containing(const void* address);
  // Asks the system to read a range ahead of its use.
  void will_need(std::size_t begin, std::size_t size) const;
  // Gives back the memory of a range that was read: it is read again when it is used again.
  void let_go(std::size_t begin, std::size_t size) const;

 private:
  explicit MappedFile(const std::filesystem::path& path);

  base::File file_;
  base::Digest identity_;
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace tte::weights
