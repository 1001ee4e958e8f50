// Checkpoints whose matrices are rounded as linear layers keep them: what `tte quantize` writes.
//
// The weights are those of compressed-tensors, without zero points: "int-quantized" of 8 bits with a scale for each
// output; or "pack-quantized" of 4 bits with one for each 128 inputs of an output, and with "weight_factor", which is
// ours: a whole number for each 32, by which the codes are multiplied too. What the file's metadata says of itself
// tells them from published ones, which become numbers: "tte.quantization", "tte.group_size" and "tte.version".
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/linear_format.h"
#include "base/rounded_matrix.h"
#include "weights/safetensors.h"
#include "weights/safetensors_writer.h"

namespace tte::weights {

// How the matrices of a checkpoint's folder were rounded; nothing where `tte quantize` did not write it. Throws
// ModelError for a file of another version, or one that contradicts itself or its config.json.
std::optional<base::LinearFormat> rounding_of(const std::filesystem::path& folder);

// Under what its metadata names the format.
inline constexpr const char* kQuantizationKey = "tte.quantization";

// What such a file says of itself, and what belongs into its config.json as "quantization_config".
Metadata rounding_metadata(base::LinearFormat format);
base::Json rounding_config(base::LinearFormat format);

// The tensors of the matrix `module`.weight [outputs, inputs], which `make` rounds.
TensorsToWrite rounded_tensors(const std::string& module, const std::vector<std::int64_t>& shape,
                               base::LinearFormat format, std::function<base::RoundedMatrix()> make);

}  // namespace tte::weights
