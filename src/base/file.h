// Files of a checkpoint, read whole and without surprises.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tte::base {

// A path, fit for a message of one line: what is not printable is escaped, and of a long one its end is
// shown.
std::string shown(const std::filesystem::path& path);

// Whether there is anything of this name, be it a link that leads nowhere or round in circles: reading it
// then says what is wrong with it. False for a name that no file can have. Never throws.
bool is_present(const std::filesystem::path& path);

// All bytes of a regular file of at most `limit` bytes. Never waits for a pipe or device. Throws ModelError
// naming the file for a path with NUL, and what is missing, not a regular file, larger than `limit` or
// unreadable.
std::string read_file(const std::filesystem::path& path, std::uintmax_t limit);

}  // namespace tte::base
