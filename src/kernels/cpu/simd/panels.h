// out = x * weight^T + bias on the CPU for bfloat16, with a weight whose outputs stand side by side.
//
// Every element of the result is one sum over k, or pairs of k, in their order: a row gives the same bits whatever rows
// stand beside it and however the work is split.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

namespace tte::kernels::simd {

// A packed weight is panels of this many outputs, the last one filled up with zeros. Within a panel, a pair of inputs
// of all its outputs stands together.
inline constexpr std::size_t kPanelOutputs = 64;

// Bytes of a panel of a weight with k inputs, which must be even.
constexpr std::size_t pair_panel_bytes(std::size_t k) {
  return k * kPanelOutputs * sizeof(std::uint16_t);
}

// Packs `outputs` (at most kPanelOutputs) rows of a weight [outputs, k] of bfloat16.
void pack_pair_panel(const std::uint16_t* weight, std::size_t stride, std::size_t outputs, std::size_t k,
                     std::uint16_t* panel);

// Whether x has to be widened to float32 for panel_gemm().
bool panels_widen();

struct PanelGemm {
  std::size_t k = 0;
  const void* x = nullptr;   // Rows of k values, dense.
  std::size_t x_stride = 0;  // Values between its rows.
  bool is_widened = false;   // x is float32, as panels_widen() says, and not bfloat16.
  const std::uint16_t* panels = nullptr;
  std::size_t first = 0;  // The output that is column 0 of out.
  std::size_t columns = 0;
  const void* bias = nullptr;       // bfloat16 [columns] or null.
  Type out_type = Type::kBFloat16;  // Or float32.
  void* out = nullptr;              // [rows, columns], dense,
  std::size_t out_row = 0;          // beginning with this one.
};

// Pairs of inputs whose part of a panel stays in the second-level cache while rows of x pass by, also as float32.
inline constexpr std::size_t kBlockPairs = 256;
// Floats of scratch memory that panel_gemm() needs for `rows` rows: their sums, and room for a widened part of a panel.
constexpr std::size_t panel_scratch(std::size_t rows) {
  return (rows + 2 * kBlockPairs) * kPanelOutputs;
}

// Computes the rows [row_begin, row_end) of the columns that panel `panel` has. scratch holds panel_scratch(row_end -
// row_begin) floats, aligned to 64 bytes.
void panel_gemm(const PanelGemm& gemm, std::size_t row_begin, std::size_t row_end, std::size_t panel,
                float* scratch);

// The part of panel `panel` that is in columns [first, first + columns) of a weight: its outputs begin .. end of the
// panel, which are columns from `column` on.
struct PanelPart {
  std::size_t begin, end, column;
};
constexpr PanelPart panel_part(std::size_t panel, std::size_t first, std::size_t columns) {
  const std::size_t from = panel * kPanelOutputs, begin = from < first ? first - from : 0;
  const std::size_t left = first + columns - from;
  return {begin, left < kPanelOutputs ? left : kPanelOutputs, from + begin - first};
}

}  // namespace tte::kernels::simd
