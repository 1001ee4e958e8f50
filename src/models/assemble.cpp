#include "models/assemble.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/linear_format.h"
#include "models/head_config.h"
#include "models/latent_transition.h"
#include "models/pooler.h"
#include "nn/linear.h"
#include "tte/error.h"
#include "weights/mapped_file.h"

namespace tte::models {
namespace {

// What models for late interaction project hidden states with: transformers' name, and colpali-engine's.
constexpr std::array kProjections = {"embedding_proj_layer", "custom_text_proj"};

// An embedding head's folder, read.
struct Head {
  HeadConfig config;
  weights::StateDict weights;
};

std::optional<Ending> ending_of(const std::optional<Head>& head) {
  if (!head) return std::nullopt;
  const bool replaces = head->config.kind == HeadKind::kLayers;
  return Ending{head->config.layers, replaces ? std::optional(head->weights) : std::nullopt};
}

// Throws ModelError for a head that cannot be one of such a base.
void check_fits(const HeadConfig& head, const Parts& parts) {
  const std::int64_t layers = parts.text.layers, hidden = parts.text.hidden_size;
  const auto refuse = [&](const char* key, std::int64_t value, const std::string& why) {
    throw ModelError(fmt::format("{}: \"{}\" is {}: {}.", head.where, key, value, why));
  };
  if (head.layers >= layers)
    refuse("layers", head.layers,
           fmt::format("the base of {} has {} layers, and one at least must stay below the head", parts.file,
                       layers));
  const std::int64_t entry = layers - head.layers;
  if (entry < parts.deepstack)
    refuse("layers", head.layers,
           fmt::format("the base of {} adds what it sees to its first {} layers, all of which "
                       "must stay below the head",
                       parts.file, parts.deepstack));
  std::int64_t attentions = 0;  // Below the head.
  for (std::int64_t i = 0; i < entry; ++i) attentions += parts.text.is_delta(i) ? 0 : 1;
  if (head.kind != HeadKind::kLayers && attentions == 0)
    refuse("layers", head.layers,
           fmt::format("the base of {} has no layer of attention below them", parts.file));
  if (!head.projection && head.dim != hidden)
    refuse("embedding_dim", head.dim,
           fmt::format("without a projection it must be the base's hidden size of {}", hidden));
}

std::optional<nn::Linear> read_projection(const weights::StateDict& weights, std::int64_t hidden) {
  for (const std::string name : kProjections) {
    if (!weights.has(name + ".weight")) continue;
    const std::vector<std::int64_t> shape = weights.shape(name + ".weight");
    return nn::Linear(weights, name, hidden, shape.empty() ? 0 : shape.front());
  }
  return std::nullopt;
}

// Which layers of `parts` are bidirectional: all of attention where config.json says so, else those that the recipe
// wants. Throws ModelError for what cannot be.
std::vector<bool> bidirectional_layers(const Bidirectional& wanted, const Parts& parts,
                                       const std::optional<HeadConfig>& head) {
  const bool all = wanted.all || !parts.text.causal;
  if (!all && !wanted.any()) return {};
  const auto refuse = [&](const std::string& why) {
    throw ModelError(
        parts.text.causal
            ? fmt::format("The recipe asks for bidirectional attention in the model of {}, {}.", parts.file,
                          why)
            : fmt::format("\"is_causal\" is false in {}: attention is bidirectional in the model, {}.",
                          parts.file, why));
  };
  if (head) refuse("of which an embedding head reads states that were made token by token: leave it out");
  std::vector<bool> out(static_cast<std::size_t>(parts.text.layers), false);
  for (std::int64_t i = 0; all && i < parts.text.layers; ++i)
    out[static_cast<std::size_t>(i)] = !parts.text.is_delta(i);
  for (const std::int64_t layer : wanted.layers) {
    if (layer < 0 || layer >= parts.text.layers)
      refuse(fmt::format("which has no layer {}: its layers are 0 to {}", layer, parts.text.layers - 1));
    if (parts.text.is_delta(layer))
      refuse(fmt::format("whose layer {} is a recurrence: leave it out of \"bidirectional\"", layer));
    out[static_cast<std::size_t>(layer)] = true;
  }
  return out;
}

std::optional<LatentTransition> read_latent(const std::optional<LatentOptions>& options,
                                            const weights::StateDict& weights, std::int64_t hidden) {
  if (!options) return std::nullopt;
  return LatentTransition(weights.select(options->tensors), *options, hidden);
}

void add_digest(base::Digester& digester, const base::Digest& digest) {
  digester.bytes(&digest.low, sizeof digest.low).bytes(&digest.high, sizeof digest.high);
}

// Settings of the tower and the type it computes in, then what `add_weights` says of its weights.
template <typename AddWeights>
base::Digest digest_vision(const Parts& parts, const ModelInfo& info, AddWeights add_weights) {
  base::Digester digester;
  digester.text(parts.family + " vision");
  parts.add_vision(digester);
  digester.number(static_cast<std::int64_t>(info.dtype))
      .number(static_cast<std::int64_t>(info.device.type()));
  if (base::is_rounded(info.linears)) digester.text(base::quantization_name(info.linears));
  add_weights(digester);
  return digester.finish();
}

ModelInfo describe(const Parts& parts, const LanguageModel& language, const weights::StateDict& weights) {
  ModelInfo info;
  info.family = parts.family;
  info.hidden_size = parts.text.hidden_size;
  info.vocab_size = parts.text.vocab_size;
  info.num_layers = parts.text.layers;
  info.max_positions = parts.text.max_positions;
  info.dtype = language.embedding().scalar_type();
  info.device = language.embedding().device();
  info.linears = weights.linears();
  info.whole_prompts = !parts.text.bidirectional_layers.empty();
  base::Digester digester;
  digester.text(parts.family).number(parts.image_token).number(parts.video_token);
  parts.text.add_to(digester);
  digester.number(static_cast<std::int64_t>(info.dtype))
      .number(static_cast<std::int64_t>(info.device.type()));
  if (parts.vision) {
    const weights::StateDict tower = weights.select(kVisionPrefix);
    info.vision_fingerprint =
        digest_vision(parts, info, [&](base::Digester& out) { add_digest(out, tower.fingerprint()); });
    info.vision_identity = digest_vision(
        parts, info, [&](base::Digester& out) { out.number(static_cast<std::int64_t>(tower.identity())); });
  }
  if (base::is_rounded(info.linears)) digester.text(base::quantization_name(info.linears));
  add_digest(digester, info.vision_fingerprint);
  add_digest(digester, weights.fingerprint());
  info.fingerprint = digester.finish();
  return info;
}

// What of the base a head stands in the place of.
void mark_ended(const HeadConfig& head, std::int64_t layers, const weights::StateDict& weights) {
  weights.mark_used("lm_head.weight");
  if (head.layers == 0) return;
  weights.mark_used("model.norm.weight");
  for (std::int64_t i = layers - head.layers; i < layers; ++i) {
    const std::string prefix = fmt::format("model.layers.{}.", i);
    for (const std::string& name : weights.select(prefix).names()) weights.mark_used(prefix + name);
  }
}

class AssembledModel final : public Model {
 public:
  AssembledModel(const Parts& parts, const weights::StateDict& weights, const ModelOptions& options,
                 const std::optional<Head>& head)
      : file_(parts.file),
        causal_(parts.text.causal),
        language_(parts.text, weights, options.state_bytes, parts.deepstack, ending_of(head),
                  options.cuda_graphs),
        vision_(parts.vision ? parts.vision(weights.select(kVisionPrefix)) : nullptr),
        projection_(read_projection(weights, parts.text.hidden_size)),
        latent_(read_latent(options.latent, weights, parts.text.hidden_size)),
        info_(describe(parts, language_, weights)),
        files_(weights.sources()) {
    if (latent_) add_latent(*options.latent, head);
    if (head) add_head(*head, parts);
    if (projection_) info_.hidden_size = projection_->weight().outputs();
  }

  [[nodiscard]] const ModelInfo& info() const override { return info_; }
  [[nodiscard]] std::int64_t state_capacity() const override { return language_.state_capacity(); }
  [[nodiscard]] std::int64_t state_bytes(std::int64_t tokens) const override {
    return language_.state_bytes(tokens);
  }
  [[nodiscard]] std::unique_ptr<SequenceState> start(std::int64_t reserve) const override {
    return language_.start(reserve);
  }
  [[nodiscard]] std::vector<at::Tensor> encode_vision(
      std::span<const std::shared_ptr<const Visual>> visuals) const override {
    check_files();
    if (vision_ == nullptr && !visuals.empty())
      throw InputError(fmt::format("The model of {} reads text only: leave images and videos out.", file_));
    return vision_ == nullptr ? std::vector<at::Tensor>{} : (*vision_)(visuals);
  }
  [[nodiscard]] at::Tensor forward(const RaggedBatch& batch) const override {
    check_files();
    const at::Tensor hidden = language_.forward(batch);
    return projection_ && !pooler_ ? (*projection_)(hidden) : hidden;
  }
  [[nodiscard]] at::Tensor next_latent(const at::Tensor& states, const at::Tensor& contexts,
                                       const std::vector<std::int64_t>& steps) const override {
    if (!latent_) throw Error("The model does not think in latent steps.");
    return (*latent_)(states, contexts, steps);
  }
  void keep_hidden(std::int64_t layer) const override { language_.keep_hidden(layer); }
  [[nodiscard]] at::Tensor pool(const at::Tensor& hidden) const override {
    if (!pooler_) throw Error("The model has no head that pools.");
    const at::Tensor vector = (*pooler_)(hidden);
    return projection_ ? (*projection_)(vector.unsqueeze(0)).squeeze(0) : vector;
  }
  void check_generates() const override {
    if (info_.head) {
      throw ModelError(fmt::format(
          "The checkpoint is an embedding head of the model of {} and writes no text: load that model as the "
          "Reasoner, and this one as the Embedder.",
          file_));
    }
    if (info_.whole_prompts) {
      throw ModelError(fmt::format(
          "{} makes attention in the model of {} bidirectional, so that no token can follow what it "
          "has read: load it as an Embedder{}.",
          causal_ ? "The recipe" : "\"is_causal\": false", file_, causal_ ? ", or with another recipe" : ""));
    }
    if (projection_) {
      throw ModelError(fmt::format(
          "The checkpoint of {} projects its hidden states to {} dimensions for retrieval, and writes no "
          "text: load it as an Embedder.",
          file_, info_.hidden_size));
    }
    if (language_.has_head()) return;
    throw ModelError(
        fmt::format("The checkpoint of {} has no lm_head.weight, without which it embeds but cannot generate "
                    "text: load it as an Embedder, or use a checkpoint with its head.",
                    file_));
  }
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden) const override {
    check_generates();
    return language_.logits(hidden);
  }

 private:
  void add_latent(const LatentOptions& options, const std::optional<Head>& head) {
    if (head || projection_ || info_.whole_prompts) {
      throw ModelError(fmt::format(
          "The recipe lets the model of {} think in latent steps, which go on from its own last states, one "
          "by one: they go with no embedding head, no projection in the model and no bidirectional "
          "attention.",
          file_));
    }
    info_.latent = true;
    base::Digester digester;
    add_digest(digester, info_.fingerprint);
    digester.text("latent").text(options.tensors).number(options.experts_per_step);
    for (const std::int64_t expert : options.excluded_experts) digester.number(expert);
    info_.fingerprint = digester.finish();
  }

  void add_head(const Head& head, const Parts& parts) {
    const HeadConfig& config = head.config;
    if (projection_)
      throw ModelError(fmt::format(
          "{}: the base of {} projects its hidden states already, and takes no head.", config.where, file_));
    const std::int64_t hidden = parts.text.hidden_size;
    if (config.projection) projection_ = nn::Linear(head.weights, "projection", hidden, config.dim);
    if (config.kind != HeadKind::kLayers) pooler_ = make_pooler(config, head.weights, hidden);
    head.weights.check_all_used();
    for (const auto& file : head.weights.sources()) files_.push_back(file);
    info_.head = {parts.text.layers - config.layers, pooler_ != nullptr, config.mean, info_.fingerprint};
    base::Digester digester;
    add_digest(digester, info_.fingerprint);
    add_digest(digester, head.weights.fingerprint());
    digester.number(static_cast<std::int64_t>(config.kind))
        .number(config.layers)
        .number(std::int64_t{config.mean});
    digester.number(config.attention_heads);
    info_.fingerprint = digester.finish();
  }

  // Throws ModelError when a file that the weights are views of was cut or written to.
  void check_files() const {
    for (const auto& weak : files_) {
      if (const auto file = weak.lock()) file->check_unchanged();
    }
  }

  std::string file_;
  bool causal_;  // By config.json, whatever the recipe says.
  LanguageModel language_;
  std::unique_ptr<const VisionEncoder> vision_;
  // Where the checkpoint has one: applied to hidden states, or to the pooled vector.
  std::optional<nn::Linear> projection_;
  std::optional<LatentTransition> latent_;  // Where the recipe says that it thinks so.
  std::unique_ptr<const Pooler> pooler_;    // Null for heads of other kinds.
  ModelInfo info_;
  std::vector<std::weak_ptr<const weights::MappedFile>> files_;
};

}  // namespace

std::shared_ptr<const Model> assemble(const base::Checkpoint& checkpoint_in, const ModelOptions& options,
                                      Parts parts) {
  std::optional<HeadConfig> config;
  if (is_head(checkpoint_in.folder())) config = read_head(checkpoint_in.folder());
  if (config) check_fits(*config, parts);
  LanguageModel::check_splits(parts.text, 1 + options.placement.further.size(), parts.file);
  parts.text.bidirectional_layers = bidirectional_layers(options.bidirectional, parts, config);
  // A head changes no tensor of its base.
  const base::Checkpoint checkpoint = config ? base::Checkpoint(checkpoint_in.base()) : checkpoint_in;
  weights::Placement placement = options.placement;
  const auto rename = [&parts](std::string_view name) { return renamed(parts.rename, name); };
  const weights::Naming naming = {rename, LanguageModel::tied_tensors(parts.text)};
  auto weights = weights::StateDict::open(checkpoint, placement, naming);
  if (!placement.dtype) {
    // Mixed checkpoints compute in the embedding's type.
    placement.dtype = LanguageModel::stored_dtype(weights);
    weights = weights::StateDict::open(checkpoint, placement, naming);
  }
  check_biases(parts.file, parts.text.biases, parts.biases, weights);
  std::optional<Head> head;
  if (config) {
    head = Head{*config,
                weights::StateDict::open(base::Checkpoint(checkpoint_in.folder() / kHeadTensors), placement)};
    mark_ended(*config, parts.text.layers, weights);
  }
  for (const std::string& name : weights.names()) {
    const auto begins = [&](const std::string& prefix) { return name.starts_with(prefix); };
    // Frequencies that old tools saved are computed here.
    if (name.ends_with("inv_freq") || std::any_of(parts.unread.begin(), parts.unread.end(), begins) ||
        std::any_of(options.read_elsewhere.begin(), options.read_elsewhere.end(), begins))
      weights.mark_used(name);
  }
  auto model = std::make_shared<const AssembledModel>(parts, weights, options, head);
  weights.check_all_used();
  if (options.loaded) options.loaded(weights);
  return model;
}

}  // namespace tte::models
