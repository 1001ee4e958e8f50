// Writes the safetensors format.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <system_error>
#include <vector>

#include "weights/safetensors.h"

namespace tte::weights {

struct TensorToWrite {
  std::string name;
  std::string dtype;  // As the file says.
  std::vector<std::int64_t> shape;
};

// Tensors that are made together.
struct TensorsToWrite {
  std::vector<TensorToWrite> tensors;
  std::function<std::vector<at::Tensor>()> make;  // On the CPU, contiguous, of as many bytes.
};

// Writes a new file with these tensors, those of larger elements before others, so that each lies as its type wants it;
// `metadata` is the file's "__metadata__". What is made is let go before the next is made. Throws as fail_to_write does
// where the file cannot be written; it is then left as far as it came.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorsToWrite>& groups,
                       const Metadata& metadata);

// Throws "<what> (<why>): <remedy>.", with `what` such as "a.safetensors cannot be written": an Error where the disk
// takes no more or breaks, which is not the caller's doing, and an InputError otherwise.
[[noreturn]] void fail_to_write(const std::string& what, std::error_code code);

}  // namespace tte::weights
