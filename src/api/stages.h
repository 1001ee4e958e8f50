// The steps that items go through in every call: media and text into prompts, prompts into traces, prompts
// into hidden states, hidden states into vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/call.h"
#include "api/model_with_recipe.h"
#include "api/reasoner_impl.h"
#include "prompt/prompt_builder.h"
#include "tte/embedder.h"
#include "tte/error.h"
#include "tte/options.h"
#include "tte/reasoner.h"
#include "tte/trace.h"

namespace tte::api {

// Throws InputError unless `each` is empty or has one entry per item.
void check_each(const char* name, std::size_t each, std::size_t items);

// The fields that say how each item is asked and decoded; ThinkOptions and ThinkThenEmbedOptions both have them.
template <typename Options>
Task task_of(const Options& options, std::size_t item) {
  return options.tasks.empty() ? options.task : options.tasks[item];
}

template <typename Options>
GenerateOptions generate_options_of(const Options& options, std::size_t item) {
  GenerateOptions out = options.generate_each.empty() ? options.generate : options.generate_each[item];
  if (!options.seeds.empty()) out.seed = options.seeds[item];
  return out;
}

template <typename Options>
void check_generate_options(const Options& options, std::size_t items) {
  check_each("tasks", options.tasks.size(), items);
  check_each("generate_each", options.generate_each.size(), items);
  check_each("seeds", options.seeds.size(), items);
  options.generate.validate();
  for (const GenerateOptions& each : options.generate_each) each.validate();
}

// Throws InputError naming them unless their data has all of their rows.
void check_rows(const Embeddings& embeddings, const char* name);

std::int64_t bytes_of(const models::Visuals& visuals);

// What an engine computes for a recipe's pooling.
engine::Output output_of(const prompt::PoolingRule& rule);

// The tokens of one trace as its callback sees them.
struct Stream {
  std::size_t seen = 0;
  std::optional<std::size_t> kept;  // The tokens that the callback wanted, once it has said so.
};

// What whoever writes the trace calls with each token; null if nobody wants to know.
std::function<OnToken(std::int64_t, const std::string&)> token_callback(Call& call, const ThinkJob& job,
                                                                        std::shared_ptr<Stream> stream);

// Throws InputError for a recipe that pools nothing: it has no vector of an item.
void check_pools(const ModelWithRecipe& embedder);
// Throws InputError for a model that has one vector of all tokens only.
void check_has_tokens(const ModelWithRecipe& embedder);

// Vectors of one call as they come in.
class VectorSink {
 public:
  // Throws InputError for a truncate_dim that the model or the recipe does not have.
  VectorSink(const ModelWithRecipe& embedder, const EmbedOptions& options, std::size_t items);

  // The pooled state (float32 [hidden], CPU) of a prompt of `tokens` becomes row `item`.
  std::span<const float> store(std::size_t item, const at::Tensor& hidden, const Timings& timings,
                               std::int64_t tokens);
  // Once, with the errors of the call.
  Embeddings result(std::vector<ItemError> errors);

 private:
  bool normalize_;
  std::span<const models::Projection> projections_;
  Embeddings out_;
};

// The dimension of vectors after truncation. Throws InputError as VectorSink does.
std::int64_t checked_dim(const ModelWithRecipe& embedder, const EmbedOptions& options);

// Cuts a state of `hidden` floats to `dim` and normalises it, into `out`.
void finish_vector(const float* state, std::int64_t dim, bool normalize, float* out);

}  // namespace tte::api
