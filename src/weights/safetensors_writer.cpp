#include "weights/safetensors_writer.h"

#include <ATen/core/Tensor.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

constexpr std::size_t kAlignment = 8;

class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path)
      : name_(base::shown(path)),
        descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) fail();
  }
  ~NewFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::string_view bytes, std::uint64_t at) const {
    while (!bytes.empty()) {
      const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail();
      bytes.remove_prefix(static_cast<std::size_t>(written));
      at += static_cast<std::uint64_t>(written);
    }
  }
  // What a full disk did not take is told here at the latest.
  void finish() {
    if (::fsync(descriptor_) != 0) fail();
    const int descriptor = std::exchange(descriptor_, -1);
    if (::close(descriptor) != 0) fail();
  }

 private:
  [[noreturn]] void fail() const {
    fail_to_write(name_ + " cannot be written", {errno, std::generic_category()});
  }

  std::string name_;
  int descriptor_;
};

// A tensor's place among the data.
struct Place {
  const TensorToWrite* tensor;
  std::uint64_t begin = 0, size = 0;
};

std::uint64_t bits(const TensorToWrite& tensor) {
  return bits_of(tensor.dtype).value_or(8);
}

// In the order of the groups.
std::vector<std::vector<Place>> places_of(const std::vector<TensorsToWrite>& groups) {
  std::vector<std::vector<Place>> places;
  for (const TensorsToWrite& group : groups) {
    auto& own = places.emplace_back();
    for (const TensorToWrite& tensor : group.tensors) {
      std::uint64_t size = bits(tensor);
      for (const std::int64_t dimension : tensor.shape) size *= static_cast<std::uint64_t>(dimension);
      own.push_back({&tensor, 0, size / 8});
    }
  }
  std::vector<Place*> all;
  for (auto& group : places) {
    for (Place& place : group) all.push_back(&place);
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Place* a, const Place* b) { return bits(*a->tensor) > bits(*b->tensor); });
  std::uint64_t next = 0;
  for (Place* place : all) place->begin = std::exchange(next, next + place->size);
  return places;
}

std::string header_of(const std::vector<std::vector<Place>>& places, const Metadata& metadata) {
  base::Json header = base::Json::object();
  header["__metadata__"] = metadata;
  for (const auto& group : places) {
    for (const auto& [tensor, begin, size] : group) {
      header[tensor->name] = {
          {"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {begin, begin + size}}};
    }
  }
  std::string text = header.dump();
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorsToWrite>& groups,
                       const Metadata& metadata) {
  const auto places = places_of(groups);
  const std::string header = header_of(places, metadata);
  NewFile file(path);
  file.write(header, 0);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::vector<at::Tensor> made = groups[i].make();
    for (std::size_t j = 0; j < places[i].size(); ++j) {
      const auto& [tensor, begin, size] = places[i][j];
      const at::Tensor& bytes = made.at(j);
      TORCH_CHECK(bytes.nbytes() == size && bytes.is_contiguous() && bytes.is_cpu(), "tensor ", tensor->name,
                  " of ", bytes.nbytes(), " bytes is not what was announced");
      if (size != 0)
        file.write({static_cast<const char*>(bytes.const_data_ptr()), size}, header.size() + begin);
    }
  }
  file.finish();
}

void fail_to_write(const std::string& what, std::error_code code) {
  const int number = code.value();
  const std::string begin = fmt::format("{} ({}): ", what, code.message());
  if (number == ENOSPC || number == EDQUOT || number == EFBIG || number == EIO)
    throw Error(begin + "see that its disk has space, and do it again.");
  throw InputError(begin + "check the path, and that it can be written to.");
}

}  // namespace tte::weights
