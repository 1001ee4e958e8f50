#include "base/json.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/file.h"

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

// Json's destructor first moves its members into a list, and where there is no memory for the list the process ends.
// Emptied from the leaves up, a value is destroyed without any. Not deeper than kMaxDepth.
void empty(Json& value) noexcept {
  if (value.is_array()) {
    auto& list = value.get_ref<Json::array_t&>();
    for (Json& item : list) empty(item);
    list.clear();
  } else if (value.is_object()) {
    auto& object = value.get_ref<Json::object_t&>();
    for (auto& [key, item] : object) empty(item);
    object.clear();
  }
}

// In place, as Json::parse() destroys what it has when memory runs out.
Json parsed(std::string_view text) {
  Json json;
  nlohmann::detail::json_sax_dom_parser<Json> builder(json);
  try {
    Json::sax_parse(text.begin(), text.end(), &builder);
  } catch (...) {
    empty(json);
    throw;
  }
  return json;
}

struct Emptied {
  void operator()(Json* json) const {
    empty(*json);
    std::default_delete<Json>()(json);
  }
};

std::shared_ptr<const Json> owned(Json&& json) {
  try {
    return std::unique_ptr<Json, Emptied>(new Json(std::move(json)));
  } catch (...) {
    empty(json);
    throw;
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
    return parsed(text);
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
  return parse_json(read_file(file, kMaxFileBytes), shown(file));
}

JsonObject read_json_object(const std::filesystem::path& file) {
  std::string where = shown(file);  // First: what is read has an owner at once.
  return {read_json(file), std::move(where)};
}

std::string shown(const Json& value, std::size_t limit) {
  // A whole vocabulary is not written out for its first line.
  if (value.is_object() && value.size() > 16) return fmt::format("an object of {} keys", value.size());
  if (value.is_array() && value.size() > 64) return fmt::format("a list of {} values", value.size());
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), limit);
}

std::optional<std::int64_t> whole_number(const Json& value, std::int64_t least, std::int64_t most) {
  if (!value.is_number_integer()) return std::nullopt;
  // Numbers past int64 are parsed as unsigned; they are out of every range here.
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return std::nullopt;
  }
  const auto number = value.get<std::int64_t>();
  return number < least || number > most ? std::nullopt : std::optional(number);
}

JsonObject::JsonObject(const Json& json, std::string where, std::string path)
    : json_(std::shared_ptr<const Json>(), &json), where_(std::move(where)), path_(std::move(path)) {
  check_object();
}

JsonObject::JsonObject(Json&& json, std::string where, std::string path)
    : json_(owned(std::move(json))), where_(std::move(where)), path_(std::move(path)) {
  check_object();
}

void JsonObject::check_object() const {
  if (json_->is_object()) return;
  if (path_.empty()) throw ModelError(fmt::format("{} is not a JSON object.", where_));
  throw ModelError(
      fmt::format("{}: \"{}\" is {}: it must be an object.", where_, printable(path_), shown(*json_)));
}

const Json* JsonObject::find(const std::string& key) const {
  const auto it = json_->find(key);
  return it == json_->end() || it->is_null() ? nullptr : &*it;
}

std::string JsonObject::below(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void JsonObject::fail(const std::string& key, const std::string& what) const {
  throw ModelError(fmt::format("{}: \"{}\" {}.", where_, printable(key.empty() ? path_ : below(key)), what));
}

void JsonObject::reject(const std::string& key, const std::string& why) const {
  const Json* value = find(key);
  fail(key, fmt::format("is {}: {}", value == nullptr ? "absent" : shown(*value), why));
}

void JsonObject::allow_only(const std::vector<std::string_view>& known) const {
  for (const auto& [key, value] : json_->items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      fail(key, fmt::format("is not a known key: remove it, or use one of {}", fmt::join(known, ", ")));
  }
}

std::optional<std::int64_t> JsonObject::integer(const std::string& key, std::int64_t least,
                                                std::int64_t most) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = whole_number(*value, least, most);
  if (!number) reject(key, fmt::format("it must be a whole number from {} to {}", least, most));
  return number;
}

std::int64_t JsonObject::integer(const std::string& key, std::int64_t fallback, std::int64_t least,
                                 std::int64_t most) const {
  return integer(key, least, most).value_or(fallback);
}

std::optional<double> JsonObject::number(const std::string& key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) reject(key, "it must be a number");
  return value->get<double>();
}

double JsonObject::number(const std::string& key, double fallback, double above, double below) const {
  const auto number = this->number(key);
  if (!number) return fallback;
  if (!(*number > above && *number < below)) {
    reject(key, fmt::format("it must be greater than {} and less than {}", above, below));
  }
  return *number;
}

bool JsonObject::flag(const std::string& key, bool fallback) const {
  return get_or<bool>(*this, key, fallback);
}

std::string JsonObject::text(const std::string& key, const std::string& fallback) const {
  return get_or<std::string>(*this, key, fallback);
}

std::vector<std::int64_t> JsonObject::integers(const std::string& key,
                                               const std::vector<std::int64_t>& fallback, std::int64_t least,
                                               std::int64_t most) const {
  auto numbers = get_or<std::vector<std::int64_t>>(*this, key, fallback);
  if (!has(key)) return numbers;
  for (const std::int64_t number : numbers) {
    if (number < least || number > most)
      reject(key, fmt::format("each must be a whole number from {} to {}", least, most));
  }
  return numbers;
}

std::vector<std::string> JsonObject::texts(const std::string& key) const {
  return get_or<std::vector<std::string>>(*this, key, {});
}

std::optional<std::size_t> JsonObject::choice(const std::string& key,
                                              std::initializer_list<std::string_view> names) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) {
    const auto it = std::find(names.begin(), names.end(), value->get_ref<const std::string&>());
    if (it != names.end()) return static_cast<std::size_t>(it - names.begin());
  }
  reject(key, fmt::format("it must be one of {}", fmt::join(names, ", ")));
}

JsonObject JsonObject::object(const std::string& key) const {
  const Json* value = find(key);
  if (value == nullptr) return {Json::object(), where_, below(key)};
  JsonObject child = *this;
  child.json_ = std::shared_ptr<const Json>(json_, value);
  child.path_ = below(key);
  child.check_object();
  return child;
}

}  // namespace tte::base
