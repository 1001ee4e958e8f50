#include "weights/tensor_file.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "weights/content_digest.h"

namespace tte::weights {

at::Tensor map_tensor(const std::shared_ptr<const MappedFile>& file, std::size_t begin, at::IntArrayRef shape,
                      at::ScalarType dtype) {
  const auto options = at::TensorOptions(dtype);
  const char* data = file->bytes().data() + begin;
  const std::size_t element = c10::elementSize(dtype);
  std::size_t bytes = element;
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  if (bytes == 0) return at::empty(shape, options);
  file->check_unchanged();
  file->will_need(begin, bytes);
  if (reinterpret_cast<std::uintptr_t>(data) % element != 0) {
    at::Tensor copy = at::empty(shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, bytes);
    return copy;
  }
  // libtorch has no read-only tensors: that nobody writes is our contract.
  return at::from_blob(
      const_cast<char*>(data), shape, [file](void*) {}, options);
}

TensorFile::TensorFile(std::shared_ptr<const MappedFile> file, std::vector<StoredTensor> tensors)
    : file_(std::move(file)), tensors_(std::move(tensors)) {}

const base::Digest& TensorFile::digest(std::size_t index) const {
  std::call_once(once_, [&] { digests_ = content_digests(*file_, tensors_); });
  return digests_[index];
}

}  // namespace tte::weights
