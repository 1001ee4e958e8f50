#include "base/json.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

namespace tte::base {
namespace {

constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{256} << 20;
// The parser itself does not recurse, but what walks the result does.
constexpr int kMaxDepth = 512;

// "line 3, column 7" of a byte offset; both count from 1, columns in bytes.
std::string position(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  return fmt::format("line {}, column {}", line, column);
}

void check_depth(std::string_view text, const std::string& where) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) {
        throw ModelError(
            fmt::format("{} nests deeper than {} levels at {}: this is not a file that tte reads.", where,
                        kMaxDepth, position(text, i)));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace

std::string json_reason(const nlohmann::detail::exception& error) {
  std::string_view what = error.what();
  if (const auto end = what.find("] "); end != std::string_view::npos) what.remove_prefix(end + 2);
  if (what.starts_with("parse error")) {
    if (const auto colon = what.find(": "); colon != std::string_view::npos) what.remove_prefix(colon + 2);
  }
  return printable(what, 200);
}

Json parse_json(std::string_view text, const std::string& where) {
  check_depth(text, where);
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    // nlohmann's byte counts from 1 and points at the last byte read.
    const std::size_t offset = error.byte == 0 ? 0 : error.byte - 1;
    throw ModelError(
        fmt::format("{} is not valid JSON at {}: {}.", where, position(text, offset), json_reason(error)));
  } catch (const Json::exception& error) {
    throw ModelError(fmt::format("{} is not JSON that tte can read: {}.", where, json_reason(error)));
  }
}

Json read_json(const std::filesystem::path& file) {
  const std::string where = printable(file.string(), 1000);
  std::error_code failure;
  const auto status = std::filesystem::status(file, failure);
  if (!std::filesystem::exists(status)) throw ModelError(fmt::format("{} does not exist.", where));
  if (!std::filesystem::is_regular_file(status)) {
    throw ModelError(fmt::format("{} is not a file: a JSON file is needed.", where));
  }
  const std::uintmax_t size = std::filesystem::file_size(file, failure);
  if (failure) throw ModelError(fmt::format("{} cannot be read: {}.", where, failure.message()));
  if (size > kMaxFileBytes) {
    throw ModelError(
        fmt::format("{} has {} bytes: tte reads JSON files of at most {}.", where, size, kMaxFileBytes));
  }
  std::ifstream stream(file, std::ios::binary);
  std::string text(size, '\0');
  if (!stream || !stream.read(text.data(), static_cast<std::streamsize>(size))) {
    throw ModelError(fmt::format("{} cannot be read: {}.", where, std::strerror(errno)));
  }
  return parse_json(text, where);
}

}  // namespace tte::base
