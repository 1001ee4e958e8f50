// Writes safetensors files for tests, good ones and hostile ones.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "temp_dir.h"

namespace tte::testing {

// Eight bytes of length, the header as it is, and the data: whatever they say.
inline std::string raw_safetensors(std::string_view header, std::string_view data) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file.append(header).append(data);
}

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// A well-formed file with the tensors in this order. As the library writes it, the header ends at a multiple
// of eight bytes; `padding` more spaces follow.
inline std::string safetensors(const NamedTensors& tensors, std::size_t padding = 0) {
  base::Json header = base::Json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor plain = tensor.contiguous();
    const char* dtype = plain.scalar_type() == at::kFloat           ? "F32"
                        : plain.scalar_type() == at::kHalf          ? "F16"
                        : plain.scalar_type() == at::kBFloat16      ? "BF16"
                        : plain.scalar_type() == at::kLong          ? "I64"
                        : plain.scalar_type() == at::kInt           ? "I32"
                        : plain.scalar_type() == at::kChar          ? "I8"
                        : plain.scalar_type() == at::kFloat8_e4m3fn ? "F8_E4M3"
                                                                    : nullptr;
    if (dtype == nullptr) throw std::invalid_argument("a dtype that this writer does not know");
    const std::size_t begin = data.size();
    if (plain.nbytes() != 0) data.append(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes());
    header[name] = {{"dtype", dtype}, {"shape", plain.sizes().vec()}, {"data_offsets", {begin, data.size()}}};
  }
  header["__metadata__"] = {{"format", "pt"}};
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8 + padding, ' ');
  return raw_safetensors(text, data);
}

// Distinct values, so that a wrong offset shows.
inline at::Tensor numbered(at::IntArrayRef shape, double start = 0, at::ScalarType dtype = at::kFloat) {
  std::int64_t size = 1;
  for (const std::int64_t dimension : shape) size *= dimension;
  return (at::arange(size, at::kDouble) * 0.25 + start).to(dtype).reshape(shape);
}

}  // namespace tte::testing
