// Rotary position embeddings over one or several axes of positions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace tte::nn {

// The angles of a step's rows, for kernels::rope_. Built once a step, used by every layer.
struct RopeTable {
  at::Tensor cos, sin;  // float32 [rows, head_dim]

  // The table of some of the rows; `rows` int64 [n].
  [[nodiscard]] RopeTable select(const at::Tensor& rows) const;
};

// How the frequencies of a text model were changed to read longer texts than it was first trained on. With a
// factor alone all are divided by it ("linear" in config.json). With the others ("llama3", Llama 3.1) only those
// are that turn less than low_freq_factor times within original_positions; those that turn more than
// high_freq_factor times stay, and between the two it goes over smoothly.
struct RopeScaling {
  double factor = 1;
  std::optional<double> low_freq_factor = {}, high_freq_factor = {};
  std::int64_t original_positions = 0;
};

// Frequency i (of head_dim / 2) turns with the position on axis axes[i]. Both halves of a head carry the same
// angles (rotate-half form).
class Rope {
 public:
  // Text: one base frequency per pair of dimensions, theta^(-2i / head_dim), in float32 as transformers
  // computes it. `axes` has head_dim / 2 entries.
  static Rope text(std::int64_t head_dim, double theta, const std::vector<std::int64_t>& axes,
                   const RopeScaling& scaling = {}, at::Device device = at::kCPU);
  // Vision: the first half of the frequencies turns with axis 0 (h), the second with axis 1 (w); each half
  // has the frequencies of a head of head_dim / 2. head_dim must be a multiple of 4.
  static Rope vision(std::int64_t head_dim, double theta, at::Device device = at::kCPU);

  // positions int64 [axes, rows]; they and the tables are on the device. `rounding` is the type that transformers
  // keeps cos and sin in (the text model's own; float32 in vision towers): values are rounded to it.
  [[nodiscard]] RopeTable table(const at::Tensor& positions, at::ScalarType rounding) const;

 private:
  // Both are on the CPU.
  Rope(const at::Tensor& inverse_frequencies, const at::Tensor& axes, at::Device device);
  at::Tensor inverse_frequencies_;  // float32 [head_dim / 2]
  at::Tensor axes_;                 // int64 [head_dim / 2]
};

// M-RoPE of Qwen2-VL and Qwen2.5-VL: the first sections[0] frequencies on axis 0, the next sections[1] on
// axis 1, ...
std::vector<std::int64_t> contiguous_sections(const std::vector<std::int64_t>& sections);

// Interleaved M-RoPE of Qwen3-VL and Qwen3.5: axis 0, 1, 2, 0, 1, 2, ... until axis k > 0 has sections[k] of the
// frequencies or their last is reached; all others turn with axis 0.
std::vector<std::int64_t> interleaved_sections(const std::vector<std::int64_t>& sections,
                                               std::int64_t frequencies);

}  // namespace tte::nn
