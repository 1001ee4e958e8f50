// What the engine knows of a model: it can start a sequence, read visuals, and run a ragged batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/checkpoint.h"
#include "base/digest.h"
#include "base/linear_format.h"
#include "models/preprocessor.h"
#include "nn/sequence_state.h"
#include "weights/state_dict.h"

namespace tte::models {

using nn::Segment;
using nn::SequenceState;

// One step: the new tokens of several sequences, packed without padding.
struct RaggedBatch {
  std::vector<Segment> segments;
  at::Tensor ids;              // int64 [tokens], CPU
  at::Tensor positions;        // int64 [3, tokens], CPU
  at::Tensor visual_rows;      // int64 [v], CPU: rows whose embedding is replaced; undefined when none
  at::Tensor visual_features;  // [v, hidden], on the model's device
  std::vector<std::int64_t> output_rows;  // Rows whose hidden states are wanted, ascending.
  at::Tensor given_rows;                  // int64 [g], CPU: rows that have no embedding; undefined when none
  at::Tensor given;                       // [g, hidden], on the model's device: what is read in its place.
  // [tokens, hidden], on the model's device: what the rows are at the layer at which a model with an embedding head
  // goes on from its base (HeadInfo::layer), where that was computed before. Nothing else is then read of them than
  // their positions. forward() may write to it.
  at::Tensor hidden;
};

// The embedding head of a model.
struct HeadInfo {
  std::int64_t layer = 0;  // It reads the hidden states that go into this layer of its base.
  bool pools = false;      // Model::pool() makes the vector. Else it is a row of what forward() returns,
  bool mean = false;       // or their mean.
  base::Digest base;       // ModelInfo::fingerprint of the base.
};

struct ModelInfo {
  std::string family;            // config.json's model_type
  std::int64_t hidden_size = 0;  // Columns of what forward() returns.
  std::int64_t vocab_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t max_positions = 0;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  base::LinearFormat linears = base::LinearFormat::kPlain;
  base::Digest fingerprint;         // Digest of config and the checkpoint's tensors (names, shapes, bytes).
  base::Digest vision_fingerprint;  // Likewise, of the vision tower's config and tensors only.
  // Equal for two models only while their vision towers are the same memory, set up alike: features of one
  // are features of the other. Means nothing outside of this process.
  base::Digest vision_identity;
  std::optional<HeadInfo> head = {};
  // Some layers let a token see what follows it, too. A prompt is then read in one step, from its first token to its
  // last: it is not cut into pieces, shares no beginning with other prompts, and no tokens are generated behind it.
  bool whole_prompts = false;
  bool latent = false;  // It has what next_latent() needs.
};

// A loaded checkpoint. const and safe to share between engines; forward() calls must not overlap.
class Model {
 public:
  virtual ~Model() = default;
  [[nodiscard]] virtual const ModelInfo& info() const = 0;
  // Bytes that the states of all sequences together can take, and that the state of a sequence of `tokens` tokens
  // takes, which need not grow with them.
  [[nodiscard]] virtual std::int64_t state_capacity() const = 0;
  [[nodiscard]] virtual std::int64_t state_bytes(std::int64_t tokens) const = 0;
  // A new sequence with room for `reserve` tokens; null when there is no room now.
  [[nodiscard]] virtual std::unique_ptr<SequenceState> start(std::int64_t reserve) const = 0;
  // Merged features of each visual, [merged patches, hidden] on the model's device.
  [[nodiscard]] virtual std::vector<at::Tensor> encode_vision(
      std::span<const std::shared_ptr<const Visual>> visuals) const = 0;
  // Appends the batch to its sequences and returns the hidden states after the final norm of output_rows,
  // [output_rows, hidden] on the model's device.
  [[nodiscard]] virtual at::Tensor forward(const RaggedBatch& batch) const = 0;
  // Throws ModelError for a checkpoint without what logits() needs.
  virtual void check_generates() const {}
  // float32 logits [rows, vocab] of hidden states.
  [[nodiscard]] virtual at::Tensor logits(const at::Tensor& hidden) const = 0;
  // From now on, the states that are started keep the hidden states that go into layer `layer`, for
  // SequenceState::kept_hidden(); those behind the final norm where there are so many layers. Must not overlap with
  // forward().
  virtual void keep_hidden(std::int64_t layer) const = 0;
  // What a model that thinks in latent steps (ModelInfo::latent) reads next, behind rows of which forward() returned
  // `states` [rows, hidden]: row i is the step with the number steps[i], from 0, of a sequence, whose context is
  // `contexts` [rows, hidden]. [rows, hidden], for RaggedBatch::given; no row depends on those beside it.
  [[nodiscard]] virtual at::Tensor next_latent(const at::Tensor& states, const at::Tensor& contexts,
                                               const std::vector<std::int64_t>& steps) const = 0;
  // The vector [values] of all that forward() returned of a sequence, in models with HeadInfo::pools.
  [[nodiscard]] virtual at::Tensor pool(const at::Tensor& hidden) const = 0;
};

// Layers of attention in which a token sees the whole prompt, and not only what stands before it.
struct Bidirectional {
  bool all = false;                  // All layers of attention; those of another kind stay as they are.
  std::vector<std::int64_t> layers;  // These, counted from 0.

  [[nodiscard]] bool any() const { return all || !layers.empty(); }
};

// What makes the next latent step of a state.
struct LatentOptions {
  std::string tensors;  // Prefix of the names of its tensors.
  std::int64_t experts_per_step = 1;
  std::vector<std::int64_t> excluded_experts;  // Numbers of experts that no step goes through.
};

struct ModelOptions {
  weights::Placement placement;
  std::int64_t state_bytes = 0;  // For sequence states; must be positive.
  bool cuda_graphs = false;      // As BackendOptions'.
  Bidirectional bidirectional = {};
  std::optional<LatentOptions> latent = {};  // For a model that thinks in latent steps.
  // Prefixes of the names of tensors that other code reads.
  std::vector<std::string> read_elsewhere = {};
  // Called with the checkpoint's tensors once the model has taken out what it is made of; may be empty.
  std::function<void(const weights::StateDict&)> loaded = {};

  // Equal for options that load the same model of a checkpoint: of its placement what may differ on one backend.
  [[nodiscard]] std::string key() const;
};

// The dtype that config.json names ("dtype", or "torch_dtype" in older files; at the top or in "text_config");
// none if it names none. Throws ModelError for one that tte does not compute in.
std::optional<at::ScalarType> declared_dtype(const base::Checkpoint& checkpoint);

// Which names of tensors are of what a checkpoint's model sees with; none are where config.json names no family that
// tte knows.
std::function<bool(std::string_view name)> vision_names(const base::Checkpoint& checkpoint);

// The family's by config.json's model_type; throws as load_preprocessor(). Without a dtype in `options` it
// takes the declared one, else the one that the weights have.
std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options);

}  // namespace tte::models
