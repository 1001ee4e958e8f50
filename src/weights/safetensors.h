// The safetensors format: eight bytes of header length, a JSON header, and the tensors back to back.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
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

// What a file says of itself: of its "__metadata__", the entries whose names begin with this.
using Metadata = std::map<std::string, std::string, std::less<>>;
inline constexpr std::string_view kOwnMetadata = "tte.";

// The tensors of a whole file, in the order of their bytes. What is returned lies inside `file`, does not
// overlap, leaves no byte over, and each shape times its dtype is its size. Throws ModelError naming `where`,
// and the tensor where there is one, for everything else; the rules are those of the safetensors library,
// except that a name that appears twice is an error too.
std::vector<StoredTensor> read_safetensors(std::string_view file, const std::string& where,
                                           Metadata* metadata = nullptr);

// Bits of one element; nothing for an unknown dtype.
std::optional<std::uint64_t> bits_of(std::string_view dtype);

// The dtypes that tte computes with: F32, F16 and BF16; nothing for the others.
std::optional<at::ScalarType> scalar_type(std::string_view dtype);
// What a file calls one of them.
std::string stored_name(at::ScalarType dtype);

// A shape for messages: "[2, 3]".
std::string shape_text(at::IntArrayRef shape);

}  // namespace tte::weights
