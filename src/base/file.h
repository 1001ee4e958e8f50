// Files that callers name, opened and read without surprises.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace tte::base {

// A path, fit for a message of one line: what is not printable is escaped, and of one of more than `bytes`
// bytes its end is shown.
std::string shown(const std::filesystem::path& path, std::size_t bytes = 240);

// Whether there is anything of this name, be it a link that leads nowhere or round in circles: reading it
// then says what is wrong with it. False for a name that no file can have. Never throws.
bool is_present(const std::filesystem::path& path);

// How whoever opens a file tells that it cannot be used.
template <typename E>
[[noreturn]] void throw_as(const std::string& message) {
  throw E(message);
}

// An open regular file; closes itself.
class File {
 public:
  // Never waits for a pipe or device. Calls `fail_with`, which throws, with a sentence that begins with `name`, for a
  // path that is empty or has a NUL, and for what is missing, not a regular file or unreadable; so do the others.
  File(const std::filesystem::path& path, std::string name, void (*fail_with)(const std::string&));
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] std::int64_t size() const { return info_.st_size; }  // When it was opened.
  [[nodiscard]] const struct stat& info() const { return info_; }    // When it was opened.
  [[nodiscard]] struct stat info_now() const;
  // Up to `count` bytes from `offset`; fewer only at the end of the file.
  std::int64_t read(void* to, std::int64_t offset, std::int64_t count) const;

  // Throws "<name> <why>".
  [[noreturn]] void fail(std::string_view why) const;

 private:
  std::string name_;
  void (*fail_)(const std::string&);
  int descriptor_ = -1;
  struct stat info_ = {};
};

// All bytes of a regular file of at most `limit` bytes. Throws ModelError naming the file as File does, and for one
// that is larger.
std::string read_file(const std::filesystem::path& path, std::uintmax_t limit);

}  // namespace tte::base
