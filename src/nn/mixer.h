// What mixes the tokens of a sequence in a decoder layer: attention, or a recurrence.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "nn/rope.h"

namespace tte::nn {

// What the layers of a step share: where its rows stand in their sequences, and what these have kept. The rows
// of sequence i are batch.cu_seqlens[i] .. batch.cu_seqlens[i + 1]. All of it is on one device.
struct Step {
  RopeTable rope;
  kernels::PagedBatch batch;
  std::span<kernels::PagedCache> caches;              // One for each layer that has one.
  std::span<kernels::RecurrentCache> recurrent = {};  // Likewise, of recurrent layers,
  std::vector<std::int64_t> slots = {};               // and the slot in them that each sequence has.
  std::vector<Step> further = {};  // The same on each further device that layers are split over.
};

// Some rows of a step, for a layer whose other rows nobody reads.
struct Selection {
  at::Tensor rows;  // int64 [n] on the model's device, ascending.
  Step step;        // These rows only, each as a sequence of its own: see nn::select_rows.
  std::vector<Selection> further = {};  // As Step's.
};

class Mixer {
 public:
  virtual ~Mixer() = default;
  // x [rows, hidden], normed, -> [rows, hidden]. Keeps what later tokens need.
  [[nodiscard]] virtual at::Tensor mix(const at::Tensor& x, const Step& step) const = 0;
  // The same, returning only the selected rows.
  [[nodiscard]] virtual at::Tensor mix_selected(const at::Tensor& x, const Step& step,
                                                const Selection& selection) const = 0;
};

}  // namespace tte::nn
