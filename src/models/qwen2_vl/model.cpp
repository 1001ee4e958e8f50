#include "models/qwen2_vl/model.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

#include "kernels/kernels.h"
#include "models/qwen2_vl/names.h"
#include "nn/attention.h"
#include "tte/error.h"
#include "weights/mapped_file.h"

namespace tte::models::qwen2_vl {
namespace {

// Below this share of wanted rows the last layer works on them alone.
constexpr std::int64_t kSelectBelow = 2;  // rows / wanted rows

nn::AttentionShape attention_shape(const TextConfig& text) {
  return {text.hidden_size, text.heads, text.kv_heads, text.head_dim, {}};
}

void check_batch(const RaggedBatch& batch, const TextConfig& text) {
  std::int64_t rows = 0;
  for (const Segment& segment : batch.segments) rows += segment.tokens;
  const std::int64_t visual = batch.visual_rows.defined() ? batch.visual_rows.numel() : 0;
  const bool features_fit =
      visual == 0 ||
      (batch.visual_features.defined() && batch.visual_features.dim() == 2 &&
       batch.visual_features.size(0) == visual && batch.visual_features.size(1) == text.hidden_size);
  if (rows < 1 || batch.ids.numel() != rows || batch.positions.dim() != 2 || batch.positions.size(0) != 3 ||
      batch.positions.size(1) != rows || !features_fit) {
    throw Error(fmt::format(
        "A batch of {} rows in {} segments has {} ids, {} positions and {} visual rows: its parts "
        "must agree.",
        rows, batch.segments.size(), batch.ids.numel(), batch.positions.numel(), visual));
  }
  std::int64_t last = -1;
  for (const std::int64_t row : batch.output_rows) {
    if (row <= last || row >= rows) {
      throw Error(fmt::format("Output row {} of a batch of {} rows: rows must ascend and exist.", row, rows));
    }
    last = row;
  }
  const std::int64_t least = batch.ids.min().item<std::int64_t>(),
                     most = batch.ids.max().item<std::int64_t>();
  if (least < 0 || most >= text.vocab_size) {
    throw InputError(fmt::format("Token {} is outside of the model's vocabulary of {}.",
                                 least < 0 ? least : most, text.vocab_size));
  }
}

nn::Selection select(const nn::Step& step, const std::vector<std::int64_t>& rows, const at::Tensor& index) {
  return {index, {step.rope.select(index), nn::select_rows(step.batch, rows), step.caches, {}}};
}

// The embedding, or the head that it is tied to where only that was saved.
at::Tensor load_embedding(const Config& config, const weights::StateDict& weights) {
  const std::vector<std::int64_t> shape = {config.text.vocab_size, config.text.hidden_size};
  if (config.tied && !weights.has(names::kEmbedding) && weights.has(names::kHead)) {
    return weights.get(names::kHead, shape);
  }
  return weights.get(names::kEmbedding, shape);
}

// The head; null for an embedder saved without one. A checkpoint that says "tied" and yet has a head of other
// values keeps it, as transformers does.
std::optional<kernels::Weight> load_head(const Config& config, const weights::StateDict& weights,
                                         const at::Tensor& embedding) {
  const std::vector<std::int64_t> shape = {config.text.vocab_size, config.text.hidden_size};
  std::optional<at::Tensor> head = weights.find(names::kHead, shape);
  if (!config.tied) return head;
  return head && !at::equal(*head, embedding) ? *head : embedding;
}

ModelInfo describe(const Config& config, const weights::StateDict& weights, const at::Tensor& embedding) {
  ModelInfo info;
  info.family = "qwen2_vl";
  info.hidden_size = config.text.hidden_size;
  info.vocab_size = config.text.vocab_size;
  info.num_layers = config.text.layers;
  info.max_positions = config.text.max_positions;
  info.dtype = embedding.scalar_type();
  info.device = embedding.device();
  info.fingerprint = fingerprint(config, weights, info);
  info.vision_fingerprint = vision_fingerprint(config.vision, weights.select(names::kVision), info);
  info.vision_identity = vision_identity(config.vision, weights.select(names::kVision), info);
  return info;
}

}  // namespace

Qwen2Vl::Qwen2Vl(const Config& config, const weights::StateDict& weights, const ModelOptions& options)
    : config_(config),
      embedding_(load_embedding(config, weights)),
      head_(load_head(config, weights, embedding_)),
      vision_(weights.select(names::kVision), config.vision),
      rope_(nn::Rope::text(
          config.text.head_dim, config.text.rope_theta,
          nn::contiguous_sections({config.text.mrope_section.begin(), config.text.mrope_section.end()}))),
      norm_(weights, names::kFinalNorm, config.text.hidden_size, {.eps = config.text.rms_norm_eps}),
      info_(describe(config, weights, embedding_)) {
  for (std::int64_t i = 0; i < config.text.layers; ++i) {
    const weights::StateDict layer = weights.select(fmt::format("{}{}.", names::kLayers, i));
    auto attention =
        std::make_unique<nn::Attention>(layer.select("self_attn."), attention_shape(config.text), i);
    layers_.emplace_back(layer, std::move(attention), config.text.hidden_size, config.text.intermediate_size,
                         nn::RmsNormOptions{.eps = config.text.rms_norm_eps});
  }
  pool_ = nn::KvPool::create(
      {config.text.layers, config.text.kv_heads, config.text.head_dim, info_.dtype, info_.device},
      options.state_bytes);
  files_ = weights.sources();
}

void Qwen2Vl::check_files() const {
  for (const auto& weak : files_) {
    if (const auto file = weak.lock()) file->check_unchanged();
  }
}

std::unique_ptr<SequenceState> Qwen2Vl::start(std::int64_t reserve) const {
  return pool_->start(reserve);
}

std::vector<at::Tensor> Qwen2Vl::encode_vision(std::span<const std::shared_ptr<const Visual>> visuals) const {
  check_files();
  return vision_(visuals);
}

at::Tensor Qwen2Vl::embed(const RaggedBatch& batch) const {
  at::Tensor hidden = embedding_.index_select(0, batch.ids.to(info_.device));
  if (batch.visual_rows.defined() && batch.visual_rows.numel() > 0) {
    hidden.index_copy_(0, batch.visual_rows.to(info_.device),
                       batch.visual_features.to(info_.device, info_.dtype));
  }
  return hidden;
}

at::Tensor Qwen2Vl::forward(const RaggedBatch& batch) const {
  check_batch(batch, config_.text);
  check_files();
  const std::vector<nn::KvState*> states = nn::kv_states(batch.segments, *pool_);
  std::vector<std::int64_t> tokens;
  for (const Segment& segment : batch.segments) tokens.push_back(segment.tokens);
  const nn::Step step{rope_.table(batch.positions, info_.device, info_.dtype),
                      nn::page(states, tokens, *pool_),
                      pool_->caches(),
                      {}};
  const auto wanted = static_cast<std::int64_t>(batch.output_rows.size());
  const bool all_wanted = wanted == batch.ids.numel();
  const bool few_wanted = wanted * kSelectBelow <= batch.ids.numel();
  const at::Tensor rows = at::tensor(batch.output_rows, at::kLong).to(info_.device);

  at::Tensor residual = embed(batch), delta;
  for (std::size_t i = 0; i + 1 < layers_.size(); ++i) {
    delta = layers_[i](residual, delta, step);
  }
  const nn::DecoderLayer& last = layers_.back();
  delta = few_wanted ? last(residual, delta, step, select(step, batch.output_rows, rows))
                     : last(residual, delta, step);
  for (std::size_t i = 0; i < states.size(); ++i) states[i]->advance(tokens[i]);

  if (wanted == 0) return residual;
  if (!all_wanted && !few_wanted) {
    residual = residual.index_select(0, rows);
    delta = delta.index_select(0, rows);
  }
  return norm_.add(residual, delta);
}

void Qwen2Vl::check_generates() const {
  if (head_) return;
  throw ModelError(
      fmt::format("The checkpoint of {} has no lm_head.weight, without which it embeds but cannot generate "
                  "text: load it as an Embedder, or use a checkpoint with its head.",
                  config_.file));
}

at::Tensor Qwen2Vl::logits(const at::Tensor& hidden) const {
  check_generates();
  return kernels::linear_float(hidden, *head_);
}

std::shared_ptr<const Model> load_model(const std::filesystem::path& checkpoint,
                                        const ModelOptions& options) {
  const Config config = load_config(checkpoint);
  weights::Placement placement = options.placement;
  weights::StateDict weights = weights::StateDict::open(checkpoint, placement);
  weights.rename(names::first_generation);
  if (!placement.dtype) {
    // Mixed checkpoints compute in the embedding's type.
    placement.dtype = weights.stored_dtype(weights.has(names::kEmbedding) ? names::kEmbedding : names::kHead);
    weights = weights::StateDict::open(checkpoint, placement);
    weights.rename(names::first_generation);
  }
  // Frequencies that old tools saved: computed here.
  for (const std::string& name : weights.names()) {
    if (name.ends_with("inv_freq")) weights.mark_used(name);
  }
  auto model = std::make_shared<const Qwen2Vl>(config, weights, options);
  weights.check_all_used();
  return model;
}

}  // namespace tte::models::qwen2_vl
