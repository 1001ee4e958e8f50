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

// A packed weight is panels of outputs, as in panels.h. Within a panel, 4 (of 4 bits: 8) inputs of all its outputs
// stand together, and the scales stand behind what they scale: the panel's (of 8 bits, float32), or each group's. A
// group of 4 bits has a step for each output, float32, and for each block of it a factor from -15 to 15: a number is
// code * factor * step. Since code * factor is a whole number of 8 bits, a product with many rows makes bytes of it
// first, and has the same sums.

inline constexpr std::size_t kGroupInputs = 128;  // Inputs that share a scale of x, and a step of an output.
// Inputs whose codes of x are summed: those of a group, or those that share a factor.
constexpr std::size_t block_inputs(Bits bits) {
  return bits == Bits::kEight ? kGroupInputs : 32;
}

// Inputs of an output that stand together: a lane of a vector has four bytes.
inline constexpr std::size_t kQuad = 4;
inline constexpr std::size_t kQuadBytes = kQuad * kPanelOutputs;
constexpr std::size_t round_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}
// k with what fills up the last quad or block, and the numbers of groups and blocks.
constexpr std::size_t filled_inputs(Bits bits, std::size_t k) {
  return round_up(k, bits == Bits::kEight ? kQuad : block_inputs(bits));
}
constexpr std::size_t groups_of(std::size_t k) {
  return round_up(k, kGroupInputs) / kGroupInputs;
}
constexpr std::size_t blocks_of(Bits bits, std::size_t k) {
  return round_up(k, block_inputs(bits)) / block_inputs(bits);
}
// Bytes of a panel's codes of `inputs` inputs, and of a 4-bit group's steps and factors.
constexpr std::size_t code_bytes(Bits bits, std::size_t inputs) {
  return inputs * kPanelOutputs / (bits == Bits::kEight ? 1 : 2);
}
inline constexpr std::size_t kGroupScaleBytes = kPanelOutputs * (sizeof(float) + sizeof(std::uint32_t));

// Bytes of a panel of a weight with k inputs; a multiple of 64.
constexpr std::size_t panel_bytes(Bits bits, std::size_t k) {
  return code_bytes(bits, filled_inputs(bits, k)) +
         (bits == Bits::kEight ? kPanelOutputs * sizeof(float) : groups_of(k) * kGroupScaleBytes);
}
// Codes of weights are unsigned numbers, with this added.
constexpr int code_offset(Bits bits) {
  return bits == Bits::kEight ? 128 : 8;
}
// Scales (of 4 bits: steps) of an output, and factors of a 4-bit group.
constexpr std::size_t scales_of(Bits bits, std::size_t k) {
  return bits == Bits::kEight ? 1 : groups_of(k);
}
inline constexpr std::size_t kFactorsOfGroup = kGroupInputs / block_inputs(Bits::kFour);

// An output of a weight with k inputs, rounded.
struct RoundedOutput {
  std::uint8_t* codes = nullptr;   // filled_inputs(); those behind k are of zeros.
  float* scales = nullptr;         // scales_of()
  std::int8_t* factors = nullptr;  // For codes of 4 bits: kFactorsOfGroup for each group.
};
// Rounds an output, k values. Scales: of 8 bits, the greatest value is 127; of 4 bits, those among some candidates that
// leave little squared error. An output (of 4 bits: a group) with a value that is not finite becomes NaN.
void round_output(Bits bits, Type type, const void* weight, std::size_t k, const RoundedOutput& out);

// Puts what round_output() made into a panel, as its output `output`.
void place_output(Bits bits, const RoundedOutput& from, std::size_t k, std::size_t output,
                  std::uint8_t* panel);

// Bytes that round_rows() needs for `rows` rows of k values.
constexpr std::size_t rounded_bytes(Bits bits, std::size_t rows, std::size_t k) {
  return rows *
         (filled_inputs(bits, k) + groups_of(k) * sizeof(float) + blocks_of(bits, k) * sizeof(std::int32_t));
}
// x [rows, k], whose rows begin `stride` values apart.
struct RowsToRound {
  Type type = Type::kFloat;
  const void* x = nullptr;
  std::size_t stride = 0, rows = 0, k = 0;
};
// Rounds rows [begin, end). A group with a value that is not finite becomes NaN.
void round_rows(Bits bits, const RowsToRound& rows, std::size_t begin, std::size_t end, void* rounded);

// Where round_rows() puts the parts of its result.
struct Rounded {
  std::size_t inputs, groups, blocks;
  std::int8_t* codes;  // [rows, inputs]
  float* scales;       // [rows, groups]
  std::int32_t* sums;  // [rows, blocks]: of the block's codes.

  Rounded(Bits bits, std::size_t rows, std::size_t k, void* memory)
      : inputs(filled_inputs(bits, k)),
        groups(groups_of(k)),
        blocks(blocks_of(bits, k)),
        codes(static_cast<std::int8_t*>(memory)) {
    auto* after = static_cast<char*>(memory) + rows * inputs;
    scales = reinterpret_cast<float*>(after);
    sums = reinterpret_cast<std::int32_t*>(after + rows * groups * sizeof(float));
  }
};

struct QuantizedGemm {
  Bits bits = Bits::kEight;
  std::size_t rows = 0;  // x has these.
  std::size_t k = 0;
  const void* x = nullptr;               // By round_rows().
  const std::uint8_t* panels = nullptr;  // One after another.
  std::size_t first = 0;                 // The output that is column 0 of out.
  std::size_t columns = 0;
  Type type = Type::kFloat;      // The bias has it.
  const void* bias = nullptr;    // [columns] or null.
  Type out_type = Type::kFloat;  // `type`, or float32.
  void* out = nullptr;           // [rows, columns], dense,
  std::size_t out_row = 0;       // beginning with this one.
};

// Floats of scratch memory that quantized_gemm() needs for `rows` rows: their sums, and room for bytes made of codes
// of 4 bits.
inline constexpr std::size_t kWidenedInputs = 2 * kGroupInputs;  // As many as stay in the first-level cache.
constexpr std::size_t quantized_scratch(std::size_t rows) {
  return rows * kPanelOutputs + code_bytes(Bits::kEight, kWidenedInputs) / sizeof(float);
}

// Computes the rows [row_begin, row_end) of the columns that panel `panel` has. scratch holds
// quantized_scratch(row_end - row_begin) floats, aligned to 64 bytes.
void quantized_gemm(const QuantizedGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel,
                    float* scratch);

}  // namespace tte::kernels::simd
