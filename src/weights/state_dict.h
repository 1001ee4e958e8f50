// The tensors of a checkpoint: memory-mapped, named, every one accounted for.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tte::weights {

class WeightStore;

// Where tensors go when they are taken out of a checkpoint.
struct Placement {
  at::Device device = at::kCPU;
  std::optional<at::ScalarType> dtype;   // Unset: as stored. On the CPU a tensor as stored is not copied.
  std::shared_ptr<WeightStore> store;    // Shares identical tensors between models; may be null.
};

// A view of a checkpoint's tensors under a prefix of their names. Copies share the checkpoint.
class StateDict {
 public:
  // A .safetensors file, or a folder with model.safetensors or model.safetensors.index.json.
  // Throws ModelError naming the file for anything missing, truncated, overlapping or contradictory.
  static StateDict open(const std::filesystem::path& path, Placement placement);

  // Renames every tensor; for checkpoints of another naming generation. Returns the new name, or nothing to keep it.
  void rename(const std::function<std::optional<std::string>(std::string_view)>& rule);

  [[nodiscard]] StateDict select(std::string_view prefix) const;  // "model.layers.0."
  [[nodiscard]] bool has(std::string_view name) const;
  [[nodiscard]] const std::string& prefix() const { return prefix_; }
  [[nodiscard]] std::vector<std::string> names() const;  // Below the prefix, prefix removed.
  // Shape as stored, without loading.
  [[nodiscard]] std::vector<std::int64_t> shape(std::string_view name) const;
  [[nodiscard]] at::ScalarType stored_dtype(std::string_view name) const;

  // Takes a tensor out and marks it used. Throws ModelError naming tensor and file if it is absent or its shape is
  // not `shape`.
  [[nodiscard]] at::Tensor get(std::string_view name, at::IntArrayRef shape) const;
  [[nodiscard]] std::optional<at::Tensor> find(std::string_view name, at::IntArrayRef shape) const;

  // Several tensors [out_i, in] stacked along dimension 0 into one (one pass over the activations instead of three).
  [[nodiscard]] at::Tensor stacked(const std::vector<std::string>& names,
                                   const std::vector<std::vector<std::int64_t>>& shapes) const;

  void mark_used(std::string_view name) const;  // A tensor that is deliberately not read (a tied head).
  // Throws ModelError naming the tensors that no layer asked for.
  void check_all_used() const;

 private:
  struct Checkpoint;
  std::shared_ptr<Checkpoint> checkpoint_;
  std::string prefix_;
};

}  // namespace tte::weights
