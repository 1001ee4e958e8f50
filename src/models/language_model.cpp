#include "models/language_model.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <numeric>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/tensors.h"
#include "nn/attention.h"
#include "nn/linear.h"
#include "nn/tensor_parallel.h"
#include "tte/error.h"

namespace tte::models {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

// Below this share of wanted rows the last layer works on them alone.
constexpr std::int64_t kSelectBelow = 2;  // rows / wanted rows

nn::Selection select(const nn::Step& step, const std::vector<std::int64_t>& rows, const at::Tensor& index) {
  nn::Selection selection{index, {step.rope.select(index), nn::select_rows(step.batch, rows), step.caches}};
  for (const nn::Step& further : step.further)
    selection.further.push_back(select(further, rows, kernels::upload(index, further.rope.cos.device())));
  return selection;
}

std::vector<std::int64_t> tokens_of(std::span<const Segment> segments) {
  std::vector<std::int64_t> tokens;
  tokens.reserve(segments.size());
  for (const Segment& segment : segments) tokens.push_back(segment.tokens);
  return tokens;
}

// The embedding, or the head that it is tied to where only that was saved.
at::Tensor load_embedding(const TextConfig& config, const weights::StateDict& weights) {
  const std::vector<std::int64_t> shape = {config.vocab_size, config.hidden_size};
  if (config.tied && !weights.has(kEmbedding) && weights.has(kHead)) {
    return weights.get(kHead, shape);
  }
  return weights.get(kEmbedding, shape);
}

// The head; null for an embedder saved without one. A checkpoint that says "tied" and yet has a head of other
// values keeps it, as transformers does.
std::optional<kernels::Weight> load_head(const TextConfig& config, const weights::StateDict& weights,
                                         const at::Tensor& embedding) {
  const std::vector<std::int64_t> shape = {config.vocab_size, config.hidden_size};
  const bool has_head = weights.has(kHead);
  if (!has_head && !config.tied) return std::nullopt;
  const std::string name = has_head ? kHead : kEmbedding;
  if (nn::is_packed(weights, name, config.vocab_size, config.hidden_size))
    return nn::load_weight(weights, {name}, {shape});
  if (config.tied && (!has_head || at::equal(weights.get(kHead, shape), embedding))) return embedding;
  return weights.get(name, shape);
}

nn::RmsNormOptions norm_options(const TextConfig& config) {
  return {.eps = config.rms_norm_eps, .scale = config.norm_scale};
}

nn::AttentionShape attention_shape(const TextConfig& config, std::int64_t layer) {
  nn::AttentionShape shape{config.hidden_size, config.heads, config.kv_heads, config.head_dim};
  shape.bidirectional = config.is_bidirectional(layer);
  if (config.qk_norm) shape.qk_norm = norm_options(config);
  shape.gated = config.gated;
  return shape;
}

std::unique_ptr<const nn::Mixer> make_attention(const TextConfig& config, std::int64_t layer,
                                                const weights::StateDict& weights, std::int64_t cache) {
  const nn::AttentionShape shape = attention_shape(config, layer);
  if (weights.devices().size() > 1)
    return std::make_unique<nn::TensorParallelAttention>(weights, shape, cache);
  return std::make_unique<nn::Attention>(weights, shape, cache);
}

std::unique_ptr<const nn::FeedForward> make_mlp(const TextConfig& config, std::int64_t layer,
                                                const weights::StateDict& weights) {
  const std::int64_t hidden = config.hidden_size, intermediate = config.intermediate_size;
  if (config.has_experts(layer)) return std::make_unique<nn::Experts>(weights, config.experts);
  if (weights.devices().size() > 1)
    return std::make_unique<nn::TensorParallelMlp>(weights, hidden, intermediate);
  return std::make_unique<nn::GatedMlp>(weights, hidden, intermediate);
}

TextConfig without(TextConfig config, const std::optional<Ending>& ending) {
  if (ending && !ending->weights) config.layers -= ending->layers;
  return config;
}

std::optional<nn::RmsNorm> load_norm(const TextConfig& config, const weights::StateDict& weights,
                                     const std::optional<Ending>& ending) {
  if (!ending || ending->layers == 0)
    return nn::RmsNorm(weights, "model.norm", config.hidden_size, norm_options(config));
  if (!ending->weights) return std::nullopt;
  return nn::RmsNorm(*ending->weights, "norm", config.hidden_size, norm_options(config));
}

nn::SlotShape slot_shape(const nn::DeltaNetShape& delta, std::int64_t layers) {
  return {layers, delta.conv_width - 1, delta.channels(), delta.value_heads, delta.key_dim, delta.value_dim};
}

}  // namespace

void TextConfig::add_to(base::Digester& digester) const {
  for (const std::int64_t value : {heads, kv_heads, std::int64_t{qk_norm}}) digester.number(value);
  for (const std::int64_t axis : rope_axes) digester.number(axis);
  for (const double value : {rms_norm_eps, rope_theta}) digester.bytes(&value, sizeof value);
  for (const bool is_delta : delta_layers) digester.number(std::int64_t{is_delta});
  if (!delta_layers.empty()) digester.number(delta.key_heads).number(delta.value_heads);
  if (!expert_layers.empty())
    digester.text("experts").number(experts.per_token).number(std::int64_t{experts.normalised});
  if (!bidirectional_layers.empty()) digester.text("bidirectional");
  for (const bool is_bidirectional : bidirectional_layers) digester.number(std::int64_t{is_bidirectional});
  if (rope_scaling.factor == 1 && !rope_scaling.low_freq_factor) return;
  for (const double value : {rope_scaling.factor, rope_scaling.low_freq_factor.value_or(0),
                             rope_scaling.high_freq_factor.value_or(0)}) {
    digester.bytes(&value, sizeof value);
  }
  digester.number(rope_scaling.original_positions);
}

LanguageModel::LanguageModel(const TextConfig& config, const weights::StateDict& weights,
                             std::int64_t state_bytes, std::int64_t deepstack,
                             const std::optional<Ending>& ending, bool cuda_graphs)
    : config_(without(config, ending)),
      entry_(ending ? config.layers - ending->layers : 0),
      deepstack_(deepstack),
      embedding_(load_embedding(config, weights)),
      head_(ending ? std::nullopt : load_head(config, weights, embedding_)),
      rope_(nn::Rope::text(2 * static_cast<std::int64_t>(config.rope_axes.size()), config.rope_theta,
                           config.rope_axes, config.rope_scaling, embedding_.device())),
      norm_(load_norm(config, weights, ending)) {
  std::int64_t attentions = 0, deltas = 0;  // How many layers of each kind came before.
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const bool replaced = ending && i >= entry_;
    const weights::StateDict layer = replaced ? ending->weights->select(fmt::format("layers.{}.", i - entry_))
                                              : weights.select(fmt::format("model.layers.{}.", i));
    std::unique_ptr<const nn::Mixer> mixer;
    if (config.is_delta(i)) {
      mixer = std::make_unique<nn::GatedDeltaNet>(layer.select("linear_attn."), config.delta, deltas++);
    } else {
      mixer = make_attention(config, i, layer.select("self_attn."), attentions++);
    }
    layers_.emplace_back(layer, std::move(mixer), make_mlp(config, i, layer.select("mlp.")),
                         config.hidden_size, norm_options(config));
  }
  const nn::KvShape kv = {attentions, config.kv_heads, config.head_dim, embedding_.scalar_type(),
                          weights.devices()};
  if (deltas > 0) {
    hybrid_ = nn::HybridPool::create(kv, slot_shape(config.delta, deltas), state_bytes);
    pool_ = hybrid_->kv();
  } else {
    pool_ = nn::KvPool::create(kv, state_bytes);
  }
  if (!hybrid_ && config.expert_layers.empty() && config.bidirectional_layers.empty() &&
      kv.devices.size() == 1 && kernels::reads_device_lengths(kv.device(), kv.dtype, kv.head_dim))
    fixed_ = std::make_unique<nn::FixedSteps>(pool_, cuda_graphs);
}

std::optional<std::pair<std::string, std::string>> LanguageModel::tied_tensors(const TextConfig& config) {
  if (!config.tied) return std::nullopt;
  return std::pair(kEmbedding, kHead);
}

void LanguageModel::check_splits(const TextConfig& config, std::size_t devices, const std::string& file) {
  const auto parts = static_cast<std::int64_t>(devices);
  if (parts == 1) return;
  if (!config.delta_layers.empty() || !config.expert_layers.empty()) {
    throw ModelError(
        fmt::format("The model of {} has {}, which are not split over devices in this version: leave "
                    "tensor_parallel out.",
                    file, config.delta_layers.empty() ? "mixtures of experts" : "recurrent layers"));
  }
  const std::int64_t most = std::gcd(std::gcd(config.heads, config.kv_heads), config.intermediate_size);
  if (most % parts == 0) return;
  throw ModelError(fmt::format(
      "tensor_parallel is {}, but the model of {} has {} heads, {} heads of keys and values and an "
      "intermediate size of {}: give a divisor of all of them, whose greatest is {}.",
      parts, file, config.heads, config.kv_heads, config.intermediate_size, most));
}

at::ScalarType LanguageModel::stored_dtype(const weights::StateDict& weights) {
  return weights.stored_dtype(weights.has(kEmbedding) ? kEmbedding : kHead);
}

std::unique_ptr<SequenceState> LanguageModel::start(std::int64_t reserve) const {
  if (hybrid_) return hybrid_->start(reserve);
  return pool_->start(reserve);
}

std::int64_t LanguageModel::state_capacity() const {
  return hybrid_ ? hybrid_->capacity() : pool_->capacity();
}

std::int64_t LanguageModel::state_bytes(std::int64_t tokens) const {
  return hybrid_ ? hybrid_->bytes(tokens) : pool_->bytes(tokens);
}

void LanguageModel::check_batch(const RaggedBatch& batch) const {
  std::int64_t rows = 0;
  for (const Segment& segment : batch.segments) {
    rows += segment.tokens;
    if (!config_.bidirectional_layers.empty() && segment.state->length() > 0)
      throw Error("A model with bidirectional layers reads a prompt in one step, and nothing behind it.");
  }
  const std::int64_t visual = batch.visual_rows.defined() ? batch.visual_rows.numel() : 0;
  const bool features_fit =
      visual == 0 || (batch.visual_features.defined() && batch.visual_features.dim() == 2 &&
                      batch.visual_features.size(0) == visual &&
                      batch.visual_features.size(1) == (1 + deepstack_) * config_.hidden_size);
  const bool given_fits =
      !batch.given_rows.defined() ||
      (!batch.hidden.defined() && batch.given.defined() &&
       batch.given.sizes() == at::IntArrayRef{batch.given_rows.numel(), config_.hidden_size});
  const at::Tensor& hidden = batch.hidden;
  const bool hidden_fits =
      !hidden.defined() || (visual == 0 && hidden.sizes() == at::IntArrayRef{rows, config_.hidden_size});
  if (rows < 1 || !hidden_fits || batch.ids.numel() != rows || batch.positions.dim() != 2 ||
      batch.positions.size(0) != 3 || batch.positions.size(1) != rows || !features_fit || !given_fits) {
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
  if (least < 0 || most >= config_.vocab_size) {
    throw InputError(fmt::format("Token {} is outside of the model's vocabulary of {}.",
                                 least < 0 ? least : most, config_.vocab_size));
  }
}

LanguageModel::States LanguageModel::states_of(std::span<const Segment> segments) const {
  if (!hybrid_) return {nn::kv_states(segments, *pool_), {}};
  States out;
  for (const nn::HybridState* state : nn::hybrid_states(segments, *hybrid_)) {
    out.kv.push_back(&state->kv());
    out.slots.push_back(state->slot());
  }
  return out;
}

LanguageModel::Prepared LanguageModel::prepare(const RaggedBatch& batch, const States& states) const {
  const at::Device device = embedding_.device();
  const at::ScalarType dtype = embedding_.scalar_type();
  const std::vector<std::int64_t> tokens = tokens_of(batch.segments);
  Prepared out;
  if (batch.hidden.defined()) {
    out.hidden = batch.hidden;
  } else {
    out.ids = kernels::upload(batch.ids, device);
  }
  out.step = {rope_.table(kernels::upload(batch.positions, device), dtype),
              nn::page(states.kv, tokens, *pool_),
              pool_->caches(),
              {},
              states.slots};
  if (hybrid_) out.step.recurrent = hybrid_->caches();
  out.step.further = nn::further_steps(out.step, *pool_);
  if (batch.visual_rows.defined() && batch.visual_rows.numel() > 0) {
    out.visual_rows = kernels::upload(batch.visual_rows, device);
    out.visual_features = batch.visual_features.to(device, dtype);
  }
  if (batch.given_rows.defined()) {
    out.given_rows = kernels::upload(batch.given_rows, device);
    out.given = batch.given;
  }
  const auto wanted = static_cast<std::int64_t>(batch.output_rows.size());
  if (wanted == batch.ids.numel()) return out;
  out.output_rows = kernels::upload(at::tensor(batch.output_rows, at::kLong), device);
  const bool has_last = (out.hidden.defined() ? entry_ : deepstack_) < config_.layers;
  if (wanted * kSelectBelow <= batch.ids.numel() && has_last && !pool_->hidden(config_.layers).defined())
    out.selection = select(out.step, batch.output_rows, out.output_rows);
  return out;
}

bool LanguageModel::is_fixed(const RaggedBatch& batch) const {
  const std::int64_t rows = batch.ids.numel();
  const bool tokens = !batch.hidden.defined() && !batch.given_rows.defined() && !batch.visual_rows.defined();
  return fixed_ && tokens && rows <= nn::FixedSteps::kMostRows && std::ssize(batch.output_rows) == rows &&
         !pool_->keeps_hidden();
}

at::Tensor LanguageModel::run_fixed(const RaggedBatch& batch, const States& states) const {
  return fixed_->run(
      batch.ids, batch.positions, states.kv, tokens_of(batch.segments),
      [this](const nn::FixedSteps::Inputs& inputs) {
        Prepared prepared;
        prepared.ids = inputs.ids;
        prepared.step = {
            rope_.table(inputs.positions, embedding_.scalar_type()), inputs.batch, pool_->caches(), {}, {}};
        return run(prepared);
      });
}

at::Tensor LanguageModel::run(const Prepared& prepared) const {
  const auto features = [&](std::int64_t layer) {
    return prepared.visual_features.narrow(1, layer * config_.hidden_size, config_.hidden_size);
  };
  at::Tensor residual = prepared.hidden, delta;
  if (!residual.defined()) residual = embedding_.index_select(0, prepared.ids);
  if (prepared.visual_rows.defined()) residual.index_copy_(0, prepared.visual_rows, features(0));
  if (prepared.given_rows.defined()) residual.index_copy_(0, prepared.given_rows, prepared.given);
  for (std::int64_t i = prepared.hidden.defined() ? entry_ : 0; i < config_.layers; ++i) {
    keep(i, residual, delta, prepared.step);
    const nn::DecoderLayer& layer = layers_[static_cast<std::size_t>(i)];
    delta = prepared.selection && i + 1 == config_.layers
                ? layer(residual, delta, prepared.step, *prepared.selection)
                : layer(residual, delta, prepared.step);
    if (i < deepstack_ && prepared.visual_rows.defined())
      residual.index_add_(0, prepared.visual_rows, features(1 + i));
  }
  return finish(residual, delta, prepared);
}

void LanguageModel::keep(std::int64_t layer, at::Tensor& residual, at::Tensor& delta,
                         const nn::Step& step) const {
  at::Tensor kept = pool_->hidden(layer);
  if (!kept.defined()) return;
  if (delta.defined()) residual.add_(std::exchange(delta, {}));
  kept.index_copy_(0, step.batch.slots, residual);
}

at::Tensor LanguageModel::finish(at::Tensor residual, const at::Tensor& delta,
                                 const Prepared& prepared) const {
  at::Tensor kept = pool_->hidden(config_.layers);
  const auto selected = [&](const at::Tensor& rows) {
    const bool some = prepared.output_rows.defined() && !prepared.selection;
    return some && rows.defined() ? rows.index_select(0, prepared.output_rows) : rows;
  };
  if (kept.defined() && norm_) {
    const at::Tensor all = norm_->add(residual, delta);
    kept.index_copy_(0, prepared.step.batch.slots, all);
    return selected(all);
  }
  residual = selected(residual);
  if (!delta.defined() || residual.size(0) == 0) return residual;
  const at::Tensor rows = selected(delta);
  return norm_ ? norm_->add(residual, rows) : residual.add(rows);
}

void LanguageModel::keep_hidden(std::int64_t layer) const {
  if (layer < 0 || layer > config_.layers)
    throw Error(
        fmt::format("A model of {} layers has nothing that goes into layer {}.", config_.layers, layer));
  pool_->keep_hidden(layer, config_.hidden_size);
}

at::Tensor LanguageModel::forward(const RaggedBatch& batch) const {
  check_batch(batch);
  const States states = states_of(batch.segments);
  at::Tensor hidden = is_fixed(batch) ? run_fixed(batch, states) : run(prepare(batch, states));
  for (std::size_t i = 0; i < states.kv.size(); ++i) states.kv[i]->advance(batch.segments[i].tokens);
  return hidden;
}

at::Tensor LanguageModel::logits(const at::Tensor& hidden) const {
  return kernels::linear_float(hidden, *head_);
}

}  // namespace tte::models
