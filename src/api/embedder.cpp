#include "tte/embedder.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "api/call.h"
#include "api/handle.h"
#include "api/model_with_recipe.h"
#include "api/sparse_sink.h"
#include "api/stages.h"
#include "api/token_sink.h"
#include "api/tokenizer_impl.h"

namespace tte {
namespace {

struct ReadyToEmbed {
  prompt::EmbedPrompt prompt;
  std::int64_t bytes = 0;
};

// Prepares and encodes every item; store(i, prompt, result) takes what comes out, and ends the item. `rows`: how many,
// from the pooled one on.
void encode_all(const Embedder::Impl& self, const std::vector<Input>& inputs,
                const std::vector<std::optional<Trace>>& traces, const EmbedCallOptions& options,
                engine::Output output, std::int64_t rows, api::Call& call,
                const std::function<void(std::size_t, const prompt::EmbedPrompt&, const engine::EncodeResult&,
                                         Timings)>& store) {
  // What holds for all items is said once.
  if (std::any_of(traces.begin(), traces.end(), [](const auto& trace) { return trace.has_value(); }))
    self.recipe().check_reads_traces();
  call.name_of = [&](std::size_t i) { return api::item_name(inputs[i], i); };
  call.run([&, output, rows](std::size_t i) {
    api::check_input(inputs[i]);
    prompt::PromptRequest request{Stage::kEmbed, options.instruction, api::task_of(options, i)};
    std::function<ReadyToEmbed()> job = [builder = self.builder, input = inputs[i], request,
                                         trace = traces.empty() ? std::nullopt : traces[i],
                                         stop = call.stopped()] {
      const Trace* given = trace ? &*trace : nullptr;
      const models::Visuals visuals = builder->media().read(input, stop);
      const auto begun = builder->begin(input, request, visuals, given, stop);
      return ReadyToEmbed{builder->with_trace(begun, given), api::bytes_of(begun->visuals)};
    };
    call.prepare<ReadyToEmbed>(i, std::move(job), [&, i](const ReadyToEmbed& ready, double seconds) {
      call.reserve_bytes(i, ready.bytes);
      engine::EncodeRequest encode;
      encode.prompt = ready.prompt.prompt;
      encode.output = output;
      if (ready.prompt.pooled_row >= 0) encode.row = ready.prompt.pooled_row;
      encode.rows = rows;
      const auto begin = std::chrono::steady_clock::now();
      call.submit<engine::EncodeResult>(
          i, self.engine(call.replica(i, self.router(), *ready.prompt.prompt)), std::move(encode),
          [&, i, seconds, begin, prompt = ready.prompt](const engine::EncodeResult& result) {
            Timings timings;
            timings.media = seconds;
            timings.queue = result.queue_seconds;
            timings.embed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
            store(i, prompt, result, timings);
          });
    });
  });
}

}  // namespace

Embedder::Embedder(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Embedder Embedder::load(const std::filesystem::path& checkpoint, const LoadOptions& options,
                        const Backend& backend) {
  if (options.draft)
    throw InputError(
        "draft is for reasoners, whose tokens it guesses: an embedder writes nothing. Leave it out.");
  return Embedder(std::make_shared<Impl>(checkpoint, options, backend));
}

Embeddings Embedder::embed(const std::vector<Input>& inputs, const std::vector<std::optional<Trace>>& traces,
                           const EmbedCallOptions& options) const {
  const auto self = api::held(impl_, "Embedder");  // Also where a callback lets go of this object.
  api::check_each("traces", traces.size(), inputs.size());
  api::check_each("tasks", options.tasks.size(), inputs.size());
  api::check_pools(*self);
  api::VectorSink sink(*self, options, inputs.size());
  api::Call call(options, inputs.size(), self->backend.impl()->media_pool(), self->window());
  encode_all(*self, inputs, traces, options, api::output_of(self->recipe().pooling), 1, call,
             [&](std::size_t i, const prompt::EmbedPrompt& prompt, const engine::EncodeResult& result,
                 const Timings& timings) {
               const auto vector = sink.store(i, result.hidden, timings, prompt.prompt->size());
               if (options.on_result) base::as_it_is([&] { options.on_result(i, vector); });
               call.finish(i);
             });
  return sink.result(call.errors());
}

TokenEmbeddings Embedder::embed_tokens(const std::vector<Input>& inputs,
                                       const std::vector<std::optional<Trace>>& traces,
                                       const EmbedCallOptions& options, const TokenOptions& tokens) const {
  const auto self = api::held(impl_, "Embedder");  // Also where a callback lets go of this object.
  api::check_each("traces", traces.size(), inputs.size());
  api::check_each("tasks", options.tasks.size(), inputs.size());
  api::check_has_tokens(*self);
  api::VectorSink sink(*self, options, inputs.size());
  api::TokenSink token_sink(*self, options, tokens, inputs.size());
  api::Call call(options, inputs.size(), self->backend.impl()->media_pool(), self->window());
  encode_all(*self, inputs, traces, options, engine::Output::kAllRows, 1, call,
             [&](std::size_t i, const prompt::EmbedPrompt& prompt, const engine::EncodeResult& result,
                 const Timings& timings) {
               const at::Tensor pooled = api::pooled_state(result.hidden, prompt, self->recipe().pooling);
               const auto vector = sink.store(i, pooled, timings, prompt.prompt->size());
               token_sink.store(call, i, prompt, result.hidden, vector, [&, i, vector] {
                 if (options.on_result) base::as_it_is([&] { options.on_result(i, vector); });
                 call.finish(i);
               });
             });
  TokenEmbeddings out = token_sink.result();
  out.pooled = sink.result(call.errors());
  return out;
}

SparseEmbeddings Embedder::embed_sparse(const std::vector<Input>& inputs,
                                        const std::vector<std::optional<Trace>>& traces,
                                        const EmbedCallOptions& options, const SparseOptions& sparse) const {
  const auto self = api::held(impl_, "Embedder");  // Also where a callback lets go of this object.
  api::check_each("traces", traces.size(), inputs.size());
  api::check_each("tasks", options.tasks.size(), inputs.size());
  api::SparseSink sparse_sink(*self, sparse, inputs.size());
  api::VectorSink sink(*self, options, inputs.size());
  api::Call call(options, inputs.size(), self->backend.impl()->media_pool(), self->window());
  const std::int64_t heads = sparse_sink.heads();
  encode_all(*self, inputs, traces, options, engine::Output::kRow, 1 + heads, call,
             [&](std::size_t i, const prompt::EmbedPrompt& prompt, const engine::EncodeResult& result,
                 const Timings& timings) {
               const auto vector = sink.store(i, result.hidden.select(0, 0), timings, prompt.prompt->size());
               sparse_sink.store(call, i, result.hidden.narrow(0, 1, heads), [&, i, vector] {
                 if (options.on_result) base::as_it_is([&] { options.on_result(i, vector); });
                 call.finish(i);
               });
             });
  SparseEmbeddings out = sparse_sink.result();
  out.pooled = sink.result(call.errors());
  return out;
}

std::int64_t Embedder::sparse_dim() const {
  const Impl& self = *api::held(impl_, "Embedder");
  return self.sparse == nullptr ? 0 : self.sparse->outputs();
}

TokenSets TokenEmbeddings::sets() const {
  const auto values = static_cast<std::int64_t>(data.empty() ? half.size() : data.size());
  if (!offsets.empty() && dim > 0 && offsets.back() > values / dim) {
    throw InputError(
        fmt::format("The TokenEmbeddings have {} values, fewer than {} rows of {} dimensions need: give "
                    "those that embed_tokens() made.",
                    values, offsets.back(), dim));
  }
  TokenSets out;
  out.half = data.empty();
  out.data = out.half ? static_cast<const void*>(half.data()) : data.data();
  out.dim = dim;
  out.offsets = offsets;
  return out;
}

std::int64_t Embedder::dim() const {
  return api::held(impl_, "Embedder")->dim();
}

const ModelDescription& Embedder::model() const {
  return api::held(impl_, "Embedder")->description;
}

Backend Embedder::backend() const {
  return api::held(impl_, "Embedder")->backend;
}

Tokenizer Embedder::tokenizer() const {
  return api::tokenizer_of(*api::held(impl_, "Embedder")->loaded->files);
}

std::vector<float> cosine(const Embeddings& a, const Embeddings& b) {
  if (a.dim != b.dim) {
    throw InputError(
        fmt::format("Vectors of {} and of {} dimensions cannot be compared: embed both with the same "
                    "model and truncate_dim.",
                    a.dim, b.dim));
  }
  api::check_rows(a, "The first Embeddings");
  api::check_rows(b, "The second Embeddings");
  const auto norms = [](const Embeddings& embeddings) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < embeddings.rows; ++i) {
      double sum = 0;
      for (const float value : embeddings.row(static_cast<std::size_t>(i)))
        sum += static_cast<double>(value) * value;
      out.push_back(std::sqrt(sum));
    }
    return out;
  };
  const std::vector<double> norms_a = norms(a), norms_b = norms(b);
  std::vector<float> out;
  out.reserve(norms_a.size() * norms_b.size());
  for (std::size_t i = 0; i < norms_a.size(); ++i) {
    const auto left = a.row(i);
    for (std::size_t j = 0; j < norms_b.size(); ++j) {
      const auto right = b.row(j);
      double dot = 0;
      for (std::size_t k = 0; k < left.size(); ++k) dot += static_cast<double>(left[k]) * right[k];
      out.push_back(static_cast<float>(dot / std::max(norms_a[i] * norms_b[j], 1e-12)));
    }
  }
  return out;
}

}  // namespace tte
