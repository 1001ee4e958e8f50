// out = x * weight^T + bias on the CPU, with a weight of 8 or 4 bits: products of whole numbers.
//
// Rows of x are rounded to 8 bits on the way, with a scale for each group of inputs: sums of products are exact
// within a group, and groups are added in their order. So a row gives the same bits whatever rows stand beside it,
// however the work is split, and whichever instructions multiply.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/simd/panels.h"
#include "kernels/types.h"

namespace tte::kernels::simd {

enum class Bits : std::uint8_t { kEight, kFour };

// A packed weight is panels of outputs, as in panels.h. Within a panel, 4 (of 4 bits: 8) inputs of all its outputs stand
// together, and the scales stand behind what they scale: the panel's (of 8 bits, float32), or each group's (of 4 bits,
// bfloat16).

// Inputs that share a scale: of x, and of an output of a 4-bit weight.
constexpr std::size_t group_inputs(Bits bits) {
  return bits == Bits::kEight ? 128 : 32;
}

// Inputs of an output that stand together: a lane of a vector has four bytes.
inline constexpr std::size_t kQuad = 4;
constexpr std::size_t round_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}
// k with what fills up the last quad or group, and the number of groups.
constexpr std::size_t filled_inputs(Bits bits, std::size_t k) {
  return round_up(k, bits == Bits::kEight ? kQuad : group_inputs(bits));
}
constexpr std::size_t groups_of(Bits bits, std::size_t k) {
  return round_up(k, group_inputs(bits)) / group_inputs(bits);
}
// Bytes of a panel's codes of `inputs` inputs, and of a 4-bit group's scales.
constexpr std::size_t code_bytes(Bits bits, std::size_t inputs) {
  return inputs * kPanelOutputs / (bits == Bits::kEight ? 1 : 2);
}
inline constexpr std::size_t kGroupScaleBytes = kPanelOutputs * sizeof(std::uint16_t);

// Bytes of a panel of a weight with k inputs; a multiple of 64.
constexpr std::size_t panel_bytes(Bits bits, std::size_t k) {
  return code_bytes(bits, filled_inputs(bits, k)) +
         (bits == Bits::kEight ? kPanelOutputs * sizeof(float) : groups_of(bits, k) * kGroupScaleBytes);
}
// Packs `outputs` (at most kPanelOutputs) rows of a weight [outputs, k]. Scales: of 8 bits, the greatest value is 127;
// of 4 bits, those among some candidates that leave the least squared error. An output (of 4 bits: a group) with a
// value that is not finite becomes NaN.
void pack_panel(Bits bits, Type type, const void* weight, std::size_t stride, std::size_t outputs,
                std::size_t k, std::uint8_t* panel);

// Bytes that round_rows() needs for `rows` rows of k values.
constexpr std::size_t rounded_bytes(Bits bits, std::size_t rows, std::size_t k) {
  return rows * (filled_inputs(bits, k) + groups_of(bits, k) * (sizeof(float) + sizeof(std::int32_t)));
}
// x [rows, k], whose rows begin `stride` values apart.
struct RowsToRound {
  Type type = Type::kFloat;
  const void* x = nullptr;
  std::size_t stride = 0, rows = 0, k = 0;
};
// Rounds rows [begin, end). A group with a value that is not finite becomes NaN.
void round_rows(Bits bits, const RowsToRound& rows, std::size_t begin, std::size_t end, void* rounded);

struct QuantizedGemm {
  Bits bits = Bits::kEight;
  std::size_t rows = 0;  // x has these.
  std::size_t k = 0;
  const void* x = nullptr;               // By round_rows().
  const std::uint8_t* panels = nullptr;  // By pack_panel(), one after another.
  std::size_t first = 0;                 // The output that is column 0 of out.
  std::size_t columns = 0;
  Type type = Type::kFloat;      // The bias has it.
  const void* bias = nullptr;    // [columns] or null.
  Type out_type = Type::kFloat;  // `type`, or float32.
  void* out = nullptr;           // [rows, columns], dense.
};

// Computes the rows [row_begin, row_end) of the columns that panel `panel` has.
void quantized_gemm(const QuantizedGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel);

}  // namespace tte::kernels::simd
