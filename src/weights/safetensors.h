// The safetensors format: eight bytes of header length, a JSON header, and the tensors back to back.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tte::weights {

struct StoredTensor {
  std::string name;
  std::string dtype;  // As the file says: "BF16".
  std::vector<std::int64_t> shape;
  std::size_t begin = 0;  // In bytes from the start of the file.
  std::size_t size = 0;   // In bytes.
};

// The tensors of a whole file, in the order of their bytes. What is returned lies inside `file`, does not
// overlap, leaves no byte over, and each shape times its dtype is its size. Throws ModelError naming `where`,
// and the tensor where there is one, for everything else; the rules are those of the safetensors library,
// except that a name that appears twice is an error too.
std::vector<StoredTensor> read_safetensors(std::string_view file, const std::string& where);

// The dtypes that tte computes with: F32, F16 and BF16; nothing for the others.
std::optional<at::ScalarType> scalar_type(std::string_view dtype);

// A shape for messages: "[2, 3]".
std::string shape_text(at::IntArrayRef shape);

}  // namespace tte::weights
