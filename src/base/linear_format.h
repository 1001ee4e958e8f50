// How the matrices of linear layers are kept: one place for options, keys and messages.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tte::base {

enum class LinearFormat : std::uint8_t {
  kPlain,  // Numbers of the model's dtype, as a checkpoint has them.
  kPanels,  // The same numbers in the order in which the processor multiplies them fastest, if it has one of its own.
  kInt8,  // Whole numbers of 8 bits, with one scale for each output.
  kInt4,  // Whole numbers of 4 bits, with one scale for each 128 inputs of an output, and a factor for each 32.
};

inline constexpr int kInt4Bits = 4;
inline constexpr int kInt4Group = 128;  // Inputs that share a scale,
inline constexpr int kInt4Block = 32;   // and those that share a factor.

// What users ask for: "none" is kPlain and kPanels, which hold the same numbers.
inline constexpr const char* kQuantizations = R"("none", "int8" or "int4")";

// The format of a quantization's name, kPlain for "none"; nothing for others.
constexpr std::optional<LinearFormat> parse_quantization(std::string_view name) {
  if (name == "none") return LinearFormat::kPlain;
  if (name == "int8") return LinearFormat::kInt8;
  if (name == "int4") return LinearFormat::kInt4;
  return std::nullopt;
}

constexpr bool is_rounded(LinearFormat format) {
  return format == LinearFormat::kInt8 || format == LinearFormat::kInt4;
}

constexpr const char* quantization_name(LinearFormat format) {
  return format == LinearFormat::kInt8 ? "int8" : format == LinearFormat::kInt4 ? "int4" : "none";
}

}  // namespace tte::base
