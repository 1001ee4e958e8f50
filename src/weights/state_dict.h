// The tensors of a checkpoint: memory-mapped, named, every one accounted for.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checkpoint.h"
#include "base/digest.h"
#include "base/linear_format.h"
#include "base/rounded_matrix.h"
#include "weights/safetensors_writer.h"

namespace tte::weights {

class MappedFile;
class WeightStore;
struct TensorEntry;
struct TensorPiece;
struct TensorSet;

// Where tensors go when they are taken out of a checkpoint.
struct Placement {
  at::Device device = at::kCPU;
  std::vector<at::Device> further = {};  // Devices that share decoder layers with it: StateDict::devices().
  std::optional<at::ScalarType> dtype = {};  // Unset: as stored. On the CPU a tensor as stored is not copied.
  std::shared_ptr<WeightStore> store = {};   // Shares identical tensors between models; may be null.
  // How linear layers keep their matrices, which they take out by packed() then.
  base::LinearFormat linears = base::LinearFormat::kPlain;
};

// What one of several devices has of the modules of a layer that is split over them: an equal share.
struct Slice {
  std::int64_t index = 0, count = 1;
  at::Device device = at::kCPU;
  // Last names of modules ("q_proj") whose outputs are shared out, and of those whose inputs are: what these compute is
  // to be added up, so that the first device alone has their biases. Of other modules it has everything.
  std::vector<std::string> by_outputs, by_inputs;
};

// What a family calls the tensors of its checkpoints.
struct Naming {
  // For checkpoints of another naming generation: gets the name of a tensor and returns the family's, or nothing to
  // keep it. Null: all are kept.
  std::function<std::optional<std::string>(std::string_view)> rename;
  // Two names of what is one tensor, unless the checkpoint has two that differ.
  std::optional<std::pair<std::string, std::string>> tied;
};

// A view of a checkpoint's tensors under a prefix of their names. Copies share the checkpoint. Thread-safe. What an
// adapter of the checkpoint changes is changed in every tensor that is taken out. Tensors taken out must never be
// written to: they may be views of the file (writing to which would crash) or shared with other models. They are
// aligned for their element type, not more. A checkpoint's files may be replaced (renamed over) while they are open,
// but not be written to in place: see MappedFile.
class StateDict {
 public:
  // A .safetensors file, or a folder with model.safetensors or model.safetensors.index.json.
  // Throws ModelError naming the file for anything missing, truncated, overlapping or contradictory, and
  // saying how to convert a checkpoint that is only there as pickled weights; for two tensors of one name; and for a
  // tensor of an adapter that has no place in the checkpoint.
  static StateDict open(const base::Checkpoint& checkpoint, Placement placement, const Naming& naming = {});

  [[nodiscard]] StateDict select(std::string_view prefix) const;  // "model.layers.0."
  // The same tensors, as one of several devices has them. What shape(), get(), find(), stacked() and packed() take and
  // give is then its share, on its device; an adapter is merged before the cut. Throws ModelError, when they are taken
  // out, for codes of few bits that the cut does not leave as they are.
  [[nodiscard]] StateDict slice(Slice slice) const;
  [[nodiscard]] bool has(std::string_view name) const;
  [[nodiscard]] const std::string& prefix() const { return prefix_; }
  [[nodiscard]] std::vector<std::string> names() const;  // Below the prefix, prefix removed.
  // Shape and dtype as stored, without loading. Throw ModelError if there is no such tensor, or no tensor of
  // a dtype that tte computes with (F32, F16, BF16).
  [[nodiscard]] std::vector<std::int64_t> shape(std::string_view name) const;
  [[nodiscard]] at::ScalarType stored_dtype(std::string_view name) const;
  // The dtype in which it is taken out: the placement's, else the stored one.
  [[nodiscard]] at::ScalarType dtype(std::string_view name) const;
  [[nodiscard]] base::LinearFormat linears() const;
  [[nodiscard]] at::Device device() const;                // The placement's, or the slice's.
  [[nodiscard]] std::vector<at::Device> devices() const;  // Those of the placement.

  // Takes a tensor out and marks it used. Throws ModelError naming tensor and file if it is absent, its shape
  // is not `shape`, or it is not F32, F16 or BF16.
  [[nodiscard]] at::Tensor get(std::string_view name, at::IntArrayRef shape) const;
  // The same, but nothing when it is absent.
  [[nodiscard]] std::optional<at::Tensor> find(std::string_view name, at::IntArrayRef shape) const;

  // Several tensors [out_i, in] stacked along dimension 0 into one (one pass over the activations instead of
  // three). A view, if they follow each other in the file and are placed as stored; else a copy.
  [[nodiscard]] at::Tensor stacked(const std::vector<std::string>& names,
                                   const std::vector<std::vector<std::int64_t>>& shapes) const;

  // Packs a matrix of numbers on the CPU, or rounded matrices that stand one below the other, into the linears' format,
  // on the placement's device.
  struct Packer {
    std::function<at::Tensor(const at::Tensor&)> numbers;
    std::function<at::Tensor(const std::vector<base::RoundedMatrix>&)> rounded;
  };
  // What `pack` makes of what stacked() would return, kept once for all models of a store that have it. Where the file
  // has it rounded as the linears' format wants it, nothing is rounded again. The tensors themselves are let go.
  [[nodiscard]] at::Tensor packed(const std::vector<std::string>& names,
                                  const std::vector<std::vector<std::int64_t>>& shapes,
                                  const Packer& pack) const;

  // A tensor that is deliberately not read (a tied head). It need not be there.
  void mark_used(std::string_view name) const;
  // Throws ModelError naming the tensors below the prefix that no layer asked for.
  void check_all_used() const;

  // All tensors below the prefix, as a file of a checkpoint has them whose matrices are rounded: those that were taken
  // out by packed() are what `round` makes of them, all others as they are stored, or what they became. The tied tensor
  // becomes two where one of them is rounded and the other is not.
  using Round = std::function<base::RoundedMatrix(const at::Tensor&)>;
  [[nodiscard]] std::vector<TensorsToWrite> rounded(const Round& round) const;

  // What the tensors below the prefix are: their names (without the prefix), stored dtypes, shapes and all of
  // their bytes, and what an adapter adds to them. See content_digests() for what it costs.
  [[nodiscard]] base::Digest fingerprint() const;

  // A number for the memory of the tensors that were taken out below the prefix: equal for two models that
  // share all of them through one store, and never given again.
  [[nodiscard]] std::uint64_t identity() const;

  // The files whose pages tensors that were taken out are views of; for check_unchanged().
  [[nodiscard]] std::vector<std::weak_ptr<const MappedFile>> sources() const;

 private:
  [[nodiscard]] TensorsToWrite unrounded(const std::string& name, const TensorEntry& entry) const;
  [[nodiscard]] std::string full(std::string_view name) const;
  [[nodiscard]] const TensorEntry* lookup(std::string_view name) const;
  [[nodiscard]] const TensorEntry& lookup_or_throw(std::string_view name) const;
  // The dimension of a tensor that the slice has a share of; nothing where it has all of it.
  [[nodiscard]] std::optional<std::size_t> cut_dimension(std::string_view name) const;
  [[nodiscard]] TensorPiece expect(std::string_view name, at::IntArrayRef shape) const;
  // The tensors that are stacked, and their shape together.
  [[nodiscard]] std::pair<std::vector<TensorPiece>, std::vector<std::int64_t>> parts_of(
      const std::vector<std::string>& names, const std::vector<std::vector<std::int64_t>>& shapes) const;
  template <typename Visit>
  void visit(const Visit& each) const;
  std::shared_ptr<TensorSet> set_;
  std::string prefix_;
  std::shared_ptr<const Slice> slice_;  // Null: everything.
};

}  // namespace tte::weights
