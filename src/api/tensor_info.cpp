#include "tte/tensor_info.h"

#include <utility>

#include "base/dtype.h"
#include "models/model.h"
#include "weights/mapped_file.h"
#include "weights/rounding.h"
#include "weights/safetensors.h"

namespace tte {

TensorFileInfo read_tensor_info(const std::filesystem::path& file) {
  const auto mapped = weights::MappedFile::open(file);
  weights::Metadata metadata;
  std::vector<weights::StoredTensor> tensors =
      weights::read_safetensors(mapped->bytes(), mapped->name(), &metadata);
  const auto is_vision = models::vision_names(file.parent_path());
  TensorFileInfo out;
  out.quantization = metadata[weights::kQuantizationKey];
  for (weights::StoredTensor& tensor : tensors) {
    const auto dtype = weights::scalar_type(tensor.dtype);
    const bool vision = is_vision(tensor.name);
    out.tensors.push_back({std::move(tensor.name), dtype ? base::dtype_name(*dtype) : std::move(tensor.dtype),
                           std::move(tensor.shape), static_cast<std::int64_t>(tensor.size), vision});
  }
  return out;
}

}  // namespace tte
