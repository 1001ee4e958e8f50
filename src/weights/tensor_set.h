// The tensors of a checkpoint that is open, by name: which file has each, what it is the codes of, and what an adapter
// adds. state_dict.h is the view of them that models see.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/linear_format.h"
#include "base/rounded_matrix.h"
#include "weights/adapter.h"
#include "weights/quantization.h"
#include "weights/state_dict.h"
#include "weights/tensor_file.h"

namespace tte::weights {

struct TensorEntry {
  std::shared_ptr<const TensorFile> file;
  std::size_t index;  // Where it is in its file.
  StoredTensor stored;
  std::string dtype;  // As which it counts: that of the base's tensor where an adapter's replaces it.
  std::vector<std::int64_t> shape;
  std::shared_ptr<const QuantizedWeight> quantized;  // What it is the codes of; null: it is as it is stored.
  std::vector<Delta> deltas;                         // Added when it is taken out.
  bool is_part = false;  // One of the tensors of a weight of few bits, which is an entry itself.
  mutable std::atomic<bool> used = false;
  mutable std::atomic<bool> as_numbers = false, as_packed = false;  // How it was taken out.

  TensorEntry(std::shared_ptr<const TensorFile> all, std::size_t at)
      : file(std::move(all)),
        index(at),
        stored(file->tensors()[at]),
        dtype(stored.dtype),
        shape(stored.shape) {}
  // The base's same tensor, for another name.
  [[nodiscard]] std::unique_ptr<TensorEntry> twin() const {
    auto out = std::make_unique<TensorEntry>(file, index);
    out->dtype = dtype;
    out->shape = shape;
    out->quantized = quantized;
    return out;
  }
  [[nodiscard]] bool is_as_stored() const { return quantized == nullptr && deltas.empty(); }
  [[nodiscard]] const MappedFile& mapped() const { return *file->file(); }
  [[nodiscard]] std::string_view bytes() const { return mapped().bytes().substr(stored.begin, stored.size); }
  [[nodiscard]] at::Tensor load() const {  // Without what is added.
    if (quantized != nullptr) return quantized->dequantize();
    return map_tensor(file->file(), stored.begin, stored.shape, *scalar_type(stored.dtype));
  }
};

// A tensor as it is taken out: all of it, or some of one dimension.
struct TensorPiece {
  const TensorEntry* entry;
  std::int64_t dimension = 0, begin = 0, count = -1;  // -1: all.

  [[nodiscard]] bool is_cut() const { return count >= 0; }
  [[nodiscard]] at::Tensor of(const at::Tensor& whole) const {
    return is_cut() ? whole.narrow(dimension, begin, count) : whole;
  }
  // The codes and scales of a weight of few bits, where the placement's format keeps such.
  [[nodiscard]] std::optional<base::RoundedMatrix> rounded(base::LinearFormat format) const;
};

struct TensorSet {
  std::string name;                                // What was opened, fit for messages.
  std::shared_ptr<const TensorFile> adapter_file;  // Null without an adapter.
  Placement placement;
  // By name; in order, so that those under a prefix are neighbours.
  std::map<std::string, std::unique_ptr<TensorEntry>, std::less<>> entries;

  void rename(const Naming& naming);
  // Weights of few bits become tensors of numbers, under the names that they have in a checkpoint without any.
  void dequantize(const Quantization& quantization);
  // Applies an adapter's tensors to those of their names.
  void adapt(const Adapter& adapter, const Naming& naming);
  void add(const Delta& delta, const std::string& target);  // Throws ModelError if there is no such tensor.
  [[nodiscard]] TensorEntry* find(const std::string& entry) const;
  // Who brings a tensor, for messages: the checkpoint, or its adapter's file.
  [[nodiscard]] std::string owner(const TensorEntry& entry) const {
    return entry.file == adapter_file ? entry.mapped().name() : name;
  }
  // The names of the tensor that `target` is: itself, or both names of a tied one, of which one may be missing.
  [[nodiscard]] std::vector<std::string> names_of(const std::string& target, const Naming& naming) const;

  // What was taken out, by the first of its parts, its format, and where the part begins.
  mutable std::mutex mutex;
  mutable std::map<std::tuple<const TensorEntry*, base::LinearFormat, std::int64_t>, at::Tensor> taken;

  // The tensors, stacked along the first dimension into `shape`, on the device; with `pack`, what it makes of them.
  [[nodiscard]] at::Tensor read(const std::vector<TensorPiece>& parts, const std::vector<std::int64_t>& shape,
                                at::Device device, const StateDict::Packer* pack = nullptr) const;
  [[nodiscard]] at::Tensor place(const std::vector<TensorPiece>& parts,
                                 const std::vector<std::int64_t>& shape, at::Device device,
                                 const StateDict::Packer* pack) const;
  [[nodiscard]] at::Tensor packed(const std::vector<TensorPiece>& parts,
                                  const std::vector<std::int64_t>& shape, at::ScalarType dtype,
                                  const StateDict::Packer& pack) const;
  [[nodiscard]] at::ScalarType dtype_of(const TensorEntry& entry) const {
    return placement.dtype.value_or(*scalar_type(entry.dtype));
  }
  std::optional<std::pair<std::string, std::string>> tied;  // Naming::tied
  [[nodiscard]] static at::Tensor stack(const std::vector<TensorPiece>& parts,
                                        const std::vector<std::int64_t>& shape, at::ScalarType dtype,
                                        at::Device device);

  // Throws ModelError where the adapter changes some layers' tensors of a kind and not all.
  void check_all_layers() const;

  // For a name that is missing: ` (there is "...")` with one that ends alike, if any.
  [[nodiscard]] std::string resembling(std::string_view missing) const;
};

}  // namespace tte::weights
