/// @file
/// What a safetensors file says of its tensors, none of which is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tte/export.h"

namespace tte {

struct TensorInfo {
  std::string name;
  std::string dtype;  ///< "float32", "bfloat16", "float16"; others as the file names them: "I8".
  std::vector<std::int64_t> shape;  ///< Empty for a scalar.
  std::int64_t bytes = 0;
  bool vision = false;  ///< The model sees with it, says the family that a config.json beside the file names.
};

struct TensorFileInfo {
  std::vector<TensorInfo> tensors;  ///< In the order of their bytes.
  std::string quantization;         ///< What quantize() rounded it to: "int8", "int4"; empty: it did not.
};

/// From the header of a safetensors file. Throws ModelError naming the file, and the tensor where there is one, for
/// anything but such a file, and for one that is cut or damaged.
TTE_API TensorFileInfo read_tensor_info(const std::filesystem::path& file);

}  // namespace tte
