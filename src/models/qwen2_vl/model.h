// Qwen2-VL: a vision tower and a decoder with M-RoPE.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/weight.h"
#include "models/model.h"
#include "models/qwen2_vl/config.h"
#include "models/qwen2_vl/vision.h"
#include "nn/decoder_layer.h"
#include "nn/kv_cache.h"
#include "nn/norm.h"
#include "nn/rope.h"
#include "weights/state_dict.h"

namespace tte::models::qwen2_vl {

class Qwen2Vl final : public Model {
 public:
  // `weights` with the names of the first generation: "visual.", "model.layers.", "lm_head.weight".
  Qwen2Vl(const Config& config, const weights::StateDict& weights, const ModelOptions& options);

  [[nodiscard]] const ModelInfo& info() const override { return info_; }
  [[nodiscard]] std::int64_t state_capacity() const override { return pool_->capacity(); }
  [[nodiscard]] std::int64_t state_bytes(std::int64_t tokens) const override { return pool_->bytes(tokens); }
  [[nodiscard]] std::unique_ptr<SequenceState> start(std::int64_t reserve) const override;
  [[nodiscard]] std::vector<at::Tensor> encode_vision(
      std::span<const std::shared_ptr<const Visual>> visuals) const override;
  [[nodiscard]] at::Tensor forward(const RaggedBatch& batch) const override;
  void check_generates() const override;
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden) const override;

 private:
  // Throws ModelError when a file that the weights are views of was cut or written to.
  void check_files() const;
  // Embeddings of the batch's ids with visual features in their places, [tokens, hidden].
  [[nodiscard]] at::Tensor embed(const RaggedBatch& batch) const;

  Config config_;
  at::Tensor embedding_;                 // [vocab, hidden]
  std::optional<kernels::Weight> head_;  // hidden -> vocab; the embedding itself when tied
  VisionTower vision_;
  nn::Rope rope_;
  std::vector<nn::DecoderLayer> layers_;
  nn::RmsNorm norm_;
  std::shared_ptr<nn::KvPool> pool_;
  ModelInfo info_;
  std::vector<std::weak_ptr<const weights::MappedFile>> files_;
};

std::shared_ptr<const Model> load_model(const std::filesystem::path& checkpoint, const ModelOptions& options);

}  // namespace tte::models::qwen2_vl
