#include "weights/safetensors.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "base/printable.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

using base::printable;

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // The safetensors library's own limit.
constexpr std::size_t kMaxDimensions = 64;              // libtorch's limit for most operations.

// Reads the header as a stream of events, so that a hostile one costs no more memory than its own tensors.
class HeaderReader final : public nlohmann::json_sax<base::Json> {
 public:
  HeaderReader(std::size_t data_begin, std::size_t data_size, const std::string& where)
      : data_begin_(data_begin), data_size_(data_size), where_(where) {}

  std::vector<StoredTensor> take_tensors() { return std::move(tensors_); }
  Metadata take_metadata() { return std::move(metadata_); }

  bool null() override {
    if (state_ == State::kMetadataValue) return to(State::kTop);  // The library accepts it.
    return scalar("null");
  }
  bool boolean(bool /*value*/) override { return scalar("a boolean"); }
  bool number_integer(number_integer_t value) override { return scalar(fmt::format("{}", value)); }
  bool number_float(number_float_t /*value*/, const string_t& text) override {
    return scalar(printable(text, 40));
  }
  bool binary(binary_t& /*value*/) override { return scalar("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
        fail_tensor(fmt::format("has a dimension of {}", value));
      }
      if (current_.shape.size() == kMaxDimensions) fail_tensor("has more than 64 dimensions");
      current_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets) {
      if (offset_count_ == offsets_.size()) fail_tensor("has more than two data_offsets");
      offsets_[offset_count_++] = value;
      return true;
    }
    return scalar(fmt::format("{}", value));
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      if (metadata_key_.starts_with(kOwnMetadata)) metadata_[metadata_key_] = value;
      return true;
    }
    if (state_ == State::kDtype) {
      current_.dtype = value;
      return to(State::kTensor);
    }
    return scalar(fmt::format("\"{}\"", printable(value, 40)));
  }

  bool start_object(std::size_t /*elements*/) override {
    switch (state_) {
      case State::kBegin:
        return to(State::kTop);
      case State::kMetadataValue:
        return to(State::kMetadata);
      case State::kTensorValue:
        return to(State::kTensor);
      case State::kSkip:
        ++skip_depth_;
        return true;
      default:
        unexpected("an object");
    }
  }

  bool key(string_t& value) override {
    switch (state_) {
      case State::kTop:
        return begin_entry(value);
      case State::kTensor:
        return begin_field(value);
      case State::kMetadata:
        metadata_key_ = value;
        return true;
      default:
        return true;  // In what is skipped.
    }
  }

  bool end_object() override {
    switch (state_) {
      case State::kMetadata:
        return to(State::kTop);
      case State::kTensor:
        return end_tensor();
      case State::kSkip:
        return end_skipped();
      default:
        return to(State::kEnd);
    }
  }

  bool start_array(std::size_t /*elements*/) override {
    switch (state_) {
      case State::kShapeValue:
        return to(State::kShape);
      case State::kOffsetsValue:
        return to(State::kOffsets);
      case State::kSkip:
        ++skip_depth_;
        return true;
      default:
        unexpected("an array");
    }
  }

  bool end_array() override {
    if (state_ == State::kSkip) return end_skipped();
    return to(State::kTensor);
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    throw ModelError(fmt::format("{} has a header that is not valid JSON at byte {}: {}.", where_,
                                 kLengthBytes + position, base::json_reason(error)));
  }

 private:
  enum class State {
    kBegin,
    kTop,
    kMetadataValue,
    kMetadata,
    kTensorValue,
    kTensor,
    kDtype,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kSkip,
    kEnd,
  };

  bool to(State state) {
    state_ = state;
    return true;
  }

  bool begin_entry(const std::string& name) {
    current_ = {};
    current_.name = name;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offset_count_ = 0;
    return to(name == "__metadata__" ? State::kMetadataValue : State::kTensorValue);
  }

  bool begin_field(const std::string& name) {
    if (name == "dtype") return once(has_dtype_, name, State::kDtype);
    if (name == "shape") return once(has_shape_, name, State::kShapeValue);
    if (name == "data_offsets") return once(has_offsets_, name, State::kOffsetsValue);
    skip_depth_ = 0;
    return to(State::kSkip);  // The library ignores other fields as well.
  }

  bool once(bool& seen, const std::string& field, State next) {
    if (seen) fail_tensor(fmt::format("has two fields \"{}\"", field));
    seen = true;
    return to(next);
  }

  // A value that is only welcome where nothing looks at it.
  bool scalar(const std::string& what) {
    if (state_ != State::kSkip) unexpected(what);
    return skip_depth_ == 0 ? to(State::kTensor) : true;
  }

  bool end_skipped() { return --skip_depth_ == 0 ? to(State::kTensor) : true; }

  bool end_tensor() {
    if (!has_dtype_ || !has_shape_ || !has_offsets_ || offset_count_ != offsets_.size()) {
      fail_tensor("lacks its dtype, its shape or its two data_offsets");
    }
    const auto [begin, end] = offsets_;
    if (begin > end || end > data_size_) {
      fail_tensor(fmt::format("lies at bytes {} to {} of {} bytes of data", begin, end, data_size_));
    }
    const std::uint64_t size = size_in_bytes();
    if (size != end - begin) {
      fail_tensor(fmt::format("takes {} bytes, but {} of shape {} needs {}", end - begin, current_.dtype,
                              shape_text(current_.shape), size));
    }
    current_.begin = data_begin_ + begin;
    current_.size = size;
    tensors_.push_back(std::move(current_));
    return to(State::kTop);
  }

  std::uint64_t size_in_bytes() {
    const auto bits = bits_of(current_.dtype);
    if (!bits) fail_tensor(fmt::format("has the unknown dtype \"{}\"", printable(current_.dtype, 40)));
    std::int64_t elements = 1;
    std::int64_t span = 1;  // With zeros counted as ones: what strides are made of must not overflow either.
    std::uint64_t total = 0;
    for (const std::int64_t dimension : current_.shape) {
      if (__builtin_mul_overflow(elements, dimension, &elements) ||
          __builtin_mul_overflow(span, std::max<std::int64_t>(dimension, 1), &span)) {
        fail_tensor(fmt::format("has the impossible shape {}", shape_text(current_.shape)));
      }
    }
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(elements), *bits, &total)) {
      fail_tensor(fmt::format("has the impossible shape {}", shape_text(current_.shape)));
    }
    if (total % 8 != 0) {
      fail_tensor(fmt::format("of {} and shape {} does not fill whole bytes", current_.dtype,
                              shape_text(current_.shape)));
    }
    return total / 8;
  }

  [[noreturn]] void fail_tensor(const std::string& problem) {
    throw ModelError(fmt::format("{} is damaged: tensor \"{}\" {}; fetch the file again.", where_,
                                 printable(current_.name), problem));
  }

  [[noreturn]] void unexpected(const std::string& what) {
    if (state_ == State::kBegin || state_ == State::kTop) {
      throw ModelError(fmt::format(
          "{} is not a safetensors file: its header holds {} in the place of an object.", where_, what));
    }
    if (state_ == State::kMetadata || state_ == State::kMetadataValue) {
      throw ModelError(
          fmt::format("{} is damaged: its __metadata__ holds {}, but may only hold strings.", where_, what));
    }
    fail_tensor(fmt::format("has {} where its dtype, shape or data_offsets should be", what));
  }

  const std::size_t data_begin_;
  const std::size_t data_size_;
  const std::string& where_;
  State state_ = State::kBegin;
  int skip_depth_ = 0;
  StoredTensor current_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::array<std::uint64_t, 2> offsets_ = {};
  std::size_t offset_count_ = 0;
  std::vector<StoredTensor> tensors_;
  std::string metadata_key_;
  Metadata metadata_;
};

void check_names(const std::vector<StoredTensor>& tensors, const std::string& where) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const auto& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    throw ModelError(fmt::format("{} is damaged: tensor \"{}\" appears twice; fetch the file again.", where,
                                 printable(*twice)));
  }
}

// Sorts by place, and checks that the tensors cover the data: no holes, no overlaps, nothing left over.
void check_cover(std::vector<StoredTensor>& tensors, std::size_t begin, std::size_t end,
                 const std::string& where) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.begin, a.size) < std::pair(b.begin, b.size);
  });
  std::size_t next = begin;
  for (const auto& tensor : tensors) {
    if (tensor.begin != next) {
      throw ModelError(fmt::format(
          "{} is damaged: tensor \"{}\" begins at byte {}, {} byte {}; fetch the file again.", where,
          printable(tensor.name), tensor.begin,
          tensor.begin < next ? "inside the one before it, which ends at" : "leaving a hole after", next));
    }
    next += tensor.size;
  }
  if (next != end) {
    throw ModelError(fmt::format("{} has {} bytes, but its tensors end at byte {}: fetch the file again.",
                                 where, end, next));
  }
}

std::uint64_t header_length(std::string_view file) {
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
  return length;
}

}  // namespace

std::vector<StoredTensor> read_safetensors(std::string_view file, const std::string& where,
                                           Metadata* metadata) {
  if (file.starts_with("version https://git-lfs.github.com/spec/")) {
    throw ModelError(fmt::format(
        "{} is a Git LFS pointer, not the weights themselves: run `git lfs pull` in its folder.", where));
  }
  if (file.size() < kLengthBytes) {
    throw ModelError(fmt::format("{} has only {} bytes, which is no safetensors file: fetch it again.", where,
                                 file.size()));
  }
  const std::uint64_t length = header_length(file);
  if (length > kMaxHeaderBytes) {
    throw ModelError(
        fmt::format("{} is not a safetensors file: its first eight bytes announce a header of {} bytes, "
                    "more than the {} that the format allows.",
                    where, length, kMaxHeaderBytes));
  }
  if (length > file.size() - kLengthBytes) {
    throw ModelError(
        fmt::format("{} is cut short: its header should have {} bytes, but the whole file has {}; fetch "
                    "it again.",
                    where, length, file.size()));
  }
  const std::string_view header = file.substr(kLengthBytes, length);
  if (!header.starts_with('{')) {
    throw ModelError(
        fmt::format("{} is not a safetensors file: its header does not begin with \"{{\".", where));
  }
  const std::size_t data_begin = kLengthBytes + length;
  HeaderReader reader(data_begin, file.size() - data_begin, where);
  base::Json::sax_parse(header.begin(), header.end(), &reader);
  auto tensors = reader.take_tensors();
  if (metadata != nullptr) *metadata = reader.take_metadata();
  check_names(tensors, where);
  check_cover(tensors, data_begin, file.size(), where);
  return tensors;
}

std::optional<std::uint64_t> bits_of(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, std::uint64_t>, 22> kBits = {{
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"U8", 8},   {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"U16", 16},
      {"F16", 16},    {"BF16", 16},   {"F8_E5M2FNUZ", 8}, {"I32", 32},        {"U32", 32}, {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},        {"U64", 64},
  }};
  const auto it =
      std::find_if(kBits.begin(), kBits.end(), [&](const auto& entry) { return entry.first == dtype; });
  if (it == kBits.end()) return std::nullopt;
  return it->second;
}

std::string shape_text(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string stored_name(at::ScalarType dtype) {
  return dtype == at::kFloat ? "F32" : dtype == at::kHalf ? "F16" : "BF16";
}

std::optional<at::ScalarType> scalar_type(std::string_view dtype) {
  if (dtype == "F32") return at::kFloat;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "BF16") return at::kBFloat16;
  return std::nullopt;
}

}  // namespace tte::weights
