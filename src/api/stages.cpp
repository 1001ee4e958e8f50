#include "api/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/file.h"
#include "base/plain_error.h"
#include "base/threads.h"

namespace tte::api {
namespace {

constexpr double kSmallestNorm = 1e-12;  // torch.nn.functional.normalize's.

}  // namespace

void check_each(const char* name, std::size_t each, std::size_t items) {
  if (each != 0 && each != items) {
    throw InputError(
        fmt::format("{} has {} entries for {} inputs: give one per input, or none.", name, each, items));
  }
}

void check_rows(const Embeddings& embeddings, const char* name) {
  const auto values = static_cast<std::int64_t>(embeddings.data.size());
  const auto [rows, dim] = std::pair(embeddings.rows, embeddings.dim);
  if (rows == 0 || (rows > 0 && dim > 0 && rows <= values / dim)) return;
  throw InputError(
      fmt::format("{} have {} values, which are no {} rows of {} dimensions: give those that embed() made.",
                  name, values, rows, dim));
}

std::int64_t bytes_of(const models::Visuals& visuals) {
  std::int64_t bytes = 0;
  for (const auto& visual : visuals) bytes += static_cast<std::int64_t>(visual->patches.values.nbytes());
  return bytes;
}

engine::Output output_of(const prompt::PoolingRule& rule) {
  switch (rule.pooling) {
    case prompt::Pooling::kMean:
      return engine::Output::kMean;
    case prompt::Pooling::kNone:
      return engine::Output::kAllRows;
    case prompt::Pooling::kHead:
      return engine::Output::kPooled;
    case prompt::Pooling::kLast:
    case prompt::Pooling::kToken:
      break;
  }
  return engine::Output::kRow;
}

std::function<OnToken(std::int64_t, const std::string&)> token_callback(Call& call, const ThinkJob& job,
                                                                        std::shared_ptr<Stream> stream) {
  const bool watched = job.on_token != nullptr && *job.on_token;
  if (!watched) return job.on_begin ? call.first_token(job.item, job.on_begin) : nullptr;
  return call.tokens(job.item, [stream = std::move(stream), item = job.item, begin = job.on_begin,
                                on_token = job.on_token](std::int64_t id, const std::string& text) {
    if (stream->seen++ == 0 && begin) begin();
    if (base::as_it_is([&] { return (*on_token)(item, text, id); }) == OnToken::kContinue) return true;
    stream->kept = stream->seen;
    return false;
  });
}

std::int64_t checked_dim(const ModelWithRecipe& embedder, const EmbedOptions& options) {
  const std::int64_t hidden = embedder.dim();
  if (!options.truncate_dim) return hidden;
  const int dim = *options.truncate_dim;
  if (dim < 1 || dim > hidden) {
    throw InputError(
        fmt::format("truncate_dim is {}: it must be between 1 and the model's {} dimensions.", dim, hidden));
  }
  const prompt::Recipe& recipe = embedder.recipe();
  const bool in_list =
      !recipe.dims || std::find(recipe.dims->begin(), recipe.dims->end(), dim) != recipe.dims->end();
  if (dim != hidden && !(in_list && dim >= recipe.least_dim.value_or(1))) {
    std::string trained = fmt::format("{} dimensions only", hidden);
    if (recipe.least_dim) trained = fmt::format("{} dimensions and more", *recipe.least_dim);
    if (recipe.dims && !recipe.dims->empty()) trained = fmt::format("{}", fmt::join(*recipe.dims, ", "));
    throw InputError(
        fmt::format("truncate_dim is {}: the recipe \"{}\" says that the model was trained for {}; a recipe "
                    "file with \"extends\": \"{}\", \"dims\": null takes it all the same.",
                    dim, recipe.name, trained, recipe.name));
  }
  return dim;
}

void finish_vector(const float* state, std::int64_t dim, bool normalize, float* out) {
  double scale = 1.0;
  if (normalize) {
    double sum = 0;
    for (std::int64_t i = 0; i < dim; ++i) sum += static_cast<double>(state[i]) * state[i];
    scale = 1.0 / std::max(std::sqrt(sum), kSmallestNorm);
  }
  for (std::int64_t i = 0; i < dim; ++i) out[i] = static_cast<float>(state[i] * scale);
}

void check_pools(const ModelWithRecipe& embedder) {
  if (embedder.recipe().pooling.pooling != prompt::Pooling::kNone) return;
  throw InputError(
      fmt::format("The recipe \"{}\" gives one vector per token: call embed_tokens, or ask for tokens.",
                  embedder.recipe().name));
}

void check_has_tokens(const ModelWithRecipe& embedder) {
  if (embedder.recipe().pooling.pooling != prompt::Pooling::kHead) return;
  throw InputError(
      fmt::format("The head {} pools all tokens by attention and gives none a vector of its own: call embed.",
                  base::shown(embedder.description.path)));
}

VectorSink::VectorSink(const ModelWithRecipe& embedder, const EmbedOptions& options, std::size_t items)
    : normalize_(options.normalize.value_or(embedder.recipe().normalize)),
      projections_(embedder.projections) {
  out_.dim = checked_dim(embedder, options);
  out_.rows = static_cast<std::int64_t>(items);
  // A row that no item fills can never be mistaken for a vector.
  out_.data.assign(items * static_cast<std::size_t>(out_.dim), std::numeric_limits<float>::quiet_NaN());
  out_.timings.resize(items);
  out_.tokens.resize(items);
}

std::span<const float> VectorSink::store(std::size_t item, const at::Tensor& hidden, const Timings& timings,
                                         std::int64_t tokens) {
  const base::OneThread alone;  // A row is little work; the threads of a step are not the caller's.
  at::Tensor state = hidden.contiguous();
  for (const models::Projection& project : projections_) state = project(state);
  finish_vector(state.const_data_ptr<float>(), out_.dim, normalize_,
                out_.data.data() + item * static_cast<std::size_t>(out_.dim));
  out_.timings[item] = timings;
  out_.tokens[item] = tokens;
  return out_.row(item);
}

Embeddings VectorSink::result(std::vector<ItemError> errors) {
  out_.errors = std::move(errors);
  std::sort(out_.errors.begin(), out_.errors.end(),
            [](const ItemError& a, const ItemError& b) { return a.index < b.index; });
  for (const ItemError& error : out_.errors) {  // It may have failed once its vector was there.
    std::fill_n(out_.data.begin() + static_cast<std::ptrdiff_t>(error.index) * out_.dim, out_.dim,
                std::numeric_limits<float>::quiet_NaN());
  }
  return std::move(out_);
}

}  // namespace tte::api
