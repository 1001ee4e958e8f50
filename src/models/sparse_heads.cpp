#include "models/sparse_heads.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include "base/not_finite.h"
#include "base/printable.h"
#include "tte/error.h"
#include "weights/safetensors.h"
#include "weights/torch_file.h"

namespace tte::models {

SparseHeads::SparseHeads(const base::Checkpoint& checkpoint, const SparseHeadsOptions& options,
                         std::int64_t count, std::int64_t inputs, at::ScalarType dtype)
    : file_(weights::MappedFile::open(checkpoint / options.file)), dtype_(dtype) {
  auto lists = weights::read_torch_file(file_);
  const auto list_of = [&](const std::string& key) {
    const auto found = lists.find(key);
    const std::size_t size = found == lists.end() ? 0 : found->second.size();
    if (static_cast<std::int64_t>(size) == count) return std::move(found->second);
    throw ModelError(
        fmt::format("{}: \"{}\" has {} tensors, but the recipe pools a token with {} behind it "
                    "(pooling_offset), and there must be a "
                    "head for each of these.",
                    file_->name(), base::printable(key, 80), size, count));
  };
  weights_ = list_of(options.weights);
  if (!options.biases.empty()) biases_ = list_of(options.biases);
  const auto check = [&](const at::Tensor& tensor, const std::string& key, std::size_t i,
                         at::IntArrayRef wanted) {
    if (tensor.sizes() == wanted) return;
    throw ModelError(fmt::format("{}: tensor {} of \"{}\" has the shape {}, but must have {}.", file_->name(),
                                 i, base::printable(key, 80), weights::shape_text(tensor.sizes()),
                                 weights::shape_text(wanted)));
  };
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const std::int64_t outputs = weights_[i].dim() == 0 ? 0 : weights_[i].size(0);
    check(weights_[i], options.weights, i, {outputs, inputs});
    if (!biases_.empty()) check(biases_[i], options.biases, i, {outputs});
    outputs_ += outputs;
  }
}

at::Tensor SparseHeads::operator()(const at::Tensor& rows) const {
  file_->check_unchanged();
  std::call_once(converted_, [&] {
    for (auto* list : {&weights_, &biases_}) {
      for (at::Tensor& tensor : *list) tensor = tensor.to(dtype_);
    }
  });
  std::vector<at::Tensor> logits;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    // One row at a time, and at an address of its own: its bits then depend on nothing else.
    const at::Tensor row =
        rows.select(0, static_cast<std::int64_t>(i)).to(dtype_, /*non_blocking=*/false, /*copy=*/true);
    const at::Tensor product = at::mv(weights_[i], row);
    logits.push_back(biases_.empty() ? product : product + biases_[i]);
  }
  at::Tensor out = at::log1p(at::relu(at::cat(logits))).to(at::kFloat);
  if (!at::isfinite(out).all().item<bool>())
    throw base::NotFiniteError(fmt::format(
        "The sparse vector that the heads of {} make is not finite: check the file.", file_->name()));
  return out;
}

}  // namespace tte::models
