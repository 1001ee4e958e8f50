// A decoder language model of Llama's kind: embedding, layers of attention (or a recurrence) and gated MLP, final
// norm, head.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/weight.h"
#include "models/model.h"
#include "nn/decoder_layer.h"
#include "nn/delta_net.h"
#include "nn/experts.h"
#include "nn/fixed_steps.h"
#include "nn/hybrid_state.h"
#include "nn/kv_cache.h"
#include "nn/norm.h"
#include "nn/rope.h"
#include "weights/state_dict.h"

namespace tte::models {

// Which linear layers of a decoder have biases, which the checkpoint's tensors must agree with.
struct Biases {
  bool qkv = false, out = false, mlp = false;
  bool by_attention_key = false,
       by_mlp_key = false;  // attention_bias, mlp_bias: whether the family reads them.
};

// Keys of config.json stand beside the fields they fill.
struct TextConfig {
  std::int64_t vocab_size = 0;         // vocab_size
  std::int64_t hidden_size = 0;        // hidden_size
  std::int64_t intermediate_size = 0;  // intermediate_size
  std::int64_t layers = 0;             // num_hidden_layers
  std::int64_t heads = 0;              // num_attention_heads
  std::int64_t kv_heads = 0;           // num_key_value_heads
  std::int64_t head_dim = 0;           // head_dim, or hidden_size / num_attention_heads
  std::int64_t max_positions = 0;      // max_position_embeddings
  double rms_norm_eps = 1e-6;          // rms_norm_eps
  double rope_theta = 1e4;             // rope_theta
  // The axis of positions that each frequency turns with: half as many as a head has dimensions that are rotated.
  std::vector<std::int64_t> rope_axes;
  nn::RopeScaling rope_scaling;  // rope_scaling, or rope_parameters
  bool qk_norm = false;          // Each head's queries and keys are normed before they are rotated.
  bool gated = false;            // What each head attends to is gated: nn::AttentionShape::gated.
  // For the norms of layers and heads, and the final one.
  kernels::NormScale norm_scale = kernels::NormScale::kWeight;
  bool tied = false;  // tie_word_embeddings
  // layer_types: whether the mixer of each layer is a gated delta net of the sizes of `delta`, and not
  // attention, which at least one is. Empty: none.
  std::vector<bool> delta_layers;
  nn::DeltaNetShape delta;
  // Layers whose MLP is a mixture of `experts`. Empty: none is.
  std::vector<bool> expert_layers;
  nn::ExpertsShape experts;
  Biases biases;
  bool causal = true;  // is_causal
  // Whether each layer is of attention in both directions. Empty: none is.
  std::vector<bool> bidirectional_layers;

  [[nodiscard]] bool is_delta(std::int64_t layer) const {
    return !delta_layers.empty() && delta_layers[static_cast<std::size_t>(layer)];
  }
  [[nodiscard]] bool has_experts(std::int64_t layer) const {
    return !expert_layers.empty() && expert_layers[static_cast<std::size_t>(layer)];
  }
  [[nodiscard]] bool is_bidirectional(std::int64_t layer) const {
    return !bidirectional_layers.empty() && bidirectional_layers[static_cast<std::size_t>(layer)];
  }
  // Adds every setting that decides what the model computes, but for those that the weights' shapes tell.
  void add_to(base::Digester& digester) const;
};

// What stands in the place of a model's last layers, its final norm and its head.
struct Ending {
  std::int64_t layers = 0;  // How many last layers. 0 leaves the final norm where it is.
  // "layers.0." and on for these, and "norm."; nothing where the hidden states that go into them are wanted.
  std::optional<weights::StateDict> weights;
};

class LanguageModel {
 public:
  // `weights` has "model." and "lm_head.". `deepstack`: after how many layers visual features are added to the
  // hidden states; visual features then have 1 + deepstack times hidden_size columns. `cuda_graphs` as ModelOptions'.
  // Layers are split over weights.devices(), where check_splits() lets them be.
  LanguageModel(const TextConfig& config, const weights::StateDict& weights, std::int64_t state_bytes,
                std::int64_t deepstack = 0, const std::optional<Ending>& ending = std::nullopt,
                bool cuda_graphs = false);

  // The embedding's name and the head's, where config.json says that they are one tensor.
  [[nodiscard]] static std::optional<std::pair<std::string, std::string>> tied_tensors(
      const TextConfig& config);

  // Throws ModelError for a model, that of the config.json `file`, whose layers so many devices cannot share.
  static void check_splits(const TextConfig& config, std::size_t devices, const std::string& file);

  // The type of the embedding in a checkpoint.
  [[nodiscard]] static at::ScalarType stored_dtype(const weights::StateDict& weights);

  [[nodiscard]] const at::Tensor& embedding() const { return embedding_; }  // [vocab, hidden]
  [[nodiscard]] bool has_head() const { return head_.has_value(); }
  // As Model's.
  [[nodiscard]] std::int64_t state_capacity() const;
  [[nodiscard]] std::int64_t state_bytes(std::int64_t tokens) const;
  [[nodiscard]] std::unique_ptr<SequenceState> start(std::int64_t reserve) const;
  [[nodiscard]] at::Tensor forward(const RaggedBatch& batch) const;
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden) const;
  void keep_hidden(std::int64_t layer) const;

 private:
  void check_batch(const RaggedBatch& batch) const;
  // All that a step needs, on the model's device.
  struct Prepared {
    at::Tensor ids;  // int64 [tokens]
    nn::Step step;
    at::Tensor visual_rows, visual_features;  // Undefined where the step has none.
    at::Tensor given_rows, given;             // Likewise.
    at::Tensor hidden;                        // RaggedBatch::hidden
    at::Tensor output_rows;                   // Undefined where all are wanted.
    // Where so few are wanted that the last layer works on them alone.
    std::optional<nn::Selection> selection;
  };
  // What the sequences of a batch have kept.
  struct States {
    std::vector<nn::KvState*> kv;
    std::vector<std::int64_t> slots;  // Empty for models without recurrent layers.
  };
  [[nodiscard]] States states_of(std::span<const Segment> segments) const;
  [[nodiscard]] Prepared prepare(const RaggedBatch& batch, const States& states) const;
  // Whether fixed_ can run it: few rows, all of which are tokens and wanted, as where sequences are written.
  [[nodiscard]] bool is_fixed(const RaggedBatch& batch) const;
  [[nodiscard]] at::Tensor run_fixed(const RaggedBatch& batch, const States& states) const;
  // Reads nothing but `prepared` and the sequences' pages.
  [[nodiscard]] at::Tensor run(const Prepared& prepared) const;
  // The sum of both becomes the residual where somebody keeps what goes into layer `layer`.
  void keep(std::int64_t layer, at::Tensor& residual, at::Tensor& delta, const nn::Step& step) const;
  [[nodiscard]] at::Tensor finish(at::Tensor residual, const at::Tensor& delta,
                                  const Prepared& prepared) const;

  TextConfig config_;   // Its layers: those that there are.
  std::int64_t entry_;  // The layer at which rows of RaggedBatch::hidden come in.
  std::int64_t deepstack_;
  at::Tensor embedding_;
  std::optional<kernels::Weight> head_;  // hidden -> vocab; the embedding itself when tied
  nn::Rope rope_;
  std::vector<nn::DecoderLayer> layers_;
  std::optional<nn::RmsNorm> norm_;
  std::shared_ptr<nn::KvPool> pool_;
  std::shared_ptr<nn::HybridPool> hybrid_;  // That pool_ is a part of, in models with recurrent layers.
  // Null on devices without them, and for models whose layers read on the host what a step has.
  std::unique_ptr<nn::FixedSteps> fixed_;
};

}  // namespace tte::models
