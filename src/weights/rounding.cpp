#include "weights/rounding.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <utility>

#include "base/file.h"
#include "base/printable.h"
#include "tte/error.h"
#include "weights/mapped_file.h"
#include "weights/quantization.h"

namespace tte::weights {
namespace {

using base::LinearFormat;

constexpr const char* kVersion = "1";
constexpr const char* kAgain = "make it again from the original checkpoint with `tte quantize`";

std::string group_size(LinearFormat format) {
  return format == LinearFormat::kInt4 ? fmt::format("{}", base::kInt4Group)
                                       : "0";  // 0: all inputs of an output.
}

std::string value_of(const Metadata& metadata, const char* key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? std::string() : it->second;
}

}  // namespace

std::optional<LinearFormat> rounding_of(const std::filesystem::path& folder) {
  if (!base::is_present(folder / "model.safetensors")) return std::nullopt;
  const auto file = MappedFile::open(folder / "model.safetensors");
  Metadata metadata;
  static_cast<void>(read_safetensors(file->bytes(), file->name(), &metadata));
  const std::string version = value_of(metadata, "tte.version"), name = value_of(metadata, kQuantizationKey);
  if (version.empty() && name.empty()) return std::nullopt;
  if (version != kVersion) {
    throw ModelError(fmt::format(
        "{} was written by another version of `tte quantize` (\"{}\"; this one reads \"{}\"): {}.",
        file->name(), base::printable(version, 40), kVersion, kAgain));
  }
  const auto format = base::parse_quantization(name);
  if (!format || !base::is_rounded(*format) || value_of(metadata, "tte.group_size") != group_size(*format)) {
    throw ModelError(fmt::format(
        "{} says that its weights are \"{}\" in groups of \"{}\", which tte does not know: {}.", file->name(),
        base::printable(name, 40), base::printable(value_of(metadata, "tte.group_size"), 40), kAgain));
  }
  if (!Quantization::read(folder)) {
    throw ModelError(
        fmt::format("{} has {} weights, but the config.json beside it has no quantization_config: {}.",
                    file->name(), name, kAgain));
  }
  return format;
}

Metadata rounding_metadata(LinearFormat format) {
  return {{"format", "pt"},
          {"tte.group_size", group_size(format)},
          {kQuantizationKey, base::quantization_name(format)},
          {"tte.version", kVersion}};
}

base::Json rounding_config(LinearFormat format) {
  const bool eight = format == LinearFormat::kInt8;
  base::Json weights = {{"num_bits", eight ? 8 : base::kInt4Bits}, {"type", "int"}, {"symmetric", true}};
  weights["strategy"] = eight ? "channel" : "group";
  if (!eight) weights["group_size"] = base::kInt4Group;
  return {{"quant_method", eight ? "compressed-tensors" : kOwnMethod},
          {"format", eight ? "int-quantized" : "pack-quantized"},
          {"quantization_status", "compressed"},
          {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
}

TensorsToWrite rounded_tensors(const std::string& module, const std::vector<std::int64_t>& shape,
                               LinearFormat format, std::function<base::RoundedMatrix()> make) {
  const std::int64_t outputs = shape[0], inputs = shape[1];
  const auto parts_of = [inputs](std::int64_t size) { return (inputs + size - 1) / size; };
  if (format == LinearFormat::kInt8) {
    return {{{module + ".weight", "I8", shape}, {module + ".weight_scale", "F32", {outputs, 1}}},
            [make = std::move(make)] {
              base::RoundedMatrix made = make();
              return std::vector{std::move(made.codes), std::move(made.scales)};
            }};
  }
  constexpr std::int64_t kCodesOfAWord = 32 / base::kInt4Bits;
  const std::int64_t groups = parts_of(base::kInt4Group);
  return {{{module + ".weight_packed", "I32", {outputs, parts_of(kCodesOfAWord)}},
           {module + ".weight_scale", "F32", {outputs, groups}},
           {module + ".weight_factor", "I8", {outputs, groups * (base::kInt4Group / base::kInt4Block)}},
           {module + ".weight_shape", "I64", {2}}},
          [make = std::move(make), shape] {
            base::RoundedMatrix made = make();
            return std::vector{std::move(made.codes), std::move(made.scales), std::move(made.factors),
                               at::tensor(shape, at::kLong)};
          }};
}

}  // namespace tte::weights
