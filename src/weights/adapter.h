// PEFT's LoRA and DoRA adapters: what they change of the tensors of another checkpoint, their base.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "tte/adapter.h"
#include "weights/tensor_file.h"

namespace tte::weights {

// Whether a folder is an adapter's, and not of a checkpoint into which one was merged and whose adapter_config.json
// was left behind: that has tensors of its own, and none of an adapter.
bool is_adapter(const std::filesystem::path& folder);

// The model that an adapter changes, as adapter_config.json names it: its folder has config.json, and is absolute, or
// seen from the current folder as in PEFT, or from the adapter's, or beside that. A folder with tensors of its own is
// its own base, as in transformers. Throws ModelError for an adapter_config.json that cannot be read.
AdapterBase base_of_adapter(const std::filesystem::path& folder);
// The class of that model, which PEFT writes where no task is named (auto_mapping's base_model_class); else empty.
std::string class_of_base(const std::filesystem::path& folder);

// What an adapter adds to one tensor.
class Delta {
 public:
  // Places in the adapter's file.
  struct Parts {
    std::optional<std::size_t> a;  // [r, in...] of a product B A; none where b itself is added (a bias).
    std::size_t b = 0;             // [out, r], or [out, r, 1, 1, 1] of a convolution
    std::optional<std::size_t> magnitude;  // [out] of DoRA: the norm of each row of the result.
    bool embedding = false;  // B A is [out, in], but the tensor [in, out]; a magnitude is of its columns.
    double scale = 1;
  };
  Delta(std::shared_ptr<const TensorFile> file, Parts parts, std::string target);

  // The tensor that it is for, as the adapter names it.
  [[nodiscard]] const std::string& target() const { return target_; }
  // The adapter's file and one of its tensors, for messages.
  [[nodiscard]] std::string shown() const;
  // Throws ModelError naming the tensors unless it fits a tensor of `shape`, which is called `name` in messages.
  void check_fits(const std::vector<std::int64_t>& shape, const std::string& name) const;
  // `weight` with it, as float32 on the device of `weight`: as PEFT's merge_and_unload() has it.
  [[nodiscard]] at::Tensor merge(const at::Tensor& weight) const;

  // What it is: which bytes of which file, or what they hold.
  void add_origin(base::Digester& digester) const;
  void add_content(base::Digester& digester) const;

 private:
  [[nodiscard]] const StoredTensor& stored(std::size_t index) const { return file_->tensors()[index]; }
  [[nodiscard]] at::Tensor tensor(std::size_t index, at::Device device) const;
  [[nodiscard]] std::vector<std::size_t> indices() const;

  std::shared_ptr<const TensorFile> file_;
  Parts parts_;
  std::string target_;
};

// A tensor that takes the place of the base's.
struct Replacement {
  std::string target;  // As the adapter names it.
  std::size_t index;   // In the adapter's file.
  // The module is one of modules_to_save, and thereby a copy of its own: what it was tied to keeps the base's values.
  bool untied;
};

// An adapter's folder, read.
struct Adapter {
  std::shared_ptr<const TensorFile> file;
  std::vector<Delta> deltas;
  std::vector<Replacement> replacements;
  // Its modules are named by their last names alone: of each kind that it changes, it was made for all of the model's.
  bool of_all_layers = false;

  // adapter_config.json and adapter_model.safetensors. Throws ModelError naming the file and the key, or the tensor,
  // for what does not fit together or changes a model in another way than LoRA and DoRA do.
  static Adapter open(const std::filesystem::path& folder);
};

}  // namespace tte::weights
