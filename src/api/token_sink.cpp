#include "api/token_sink.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "api/token_pooling.h"

namespace tte {

void TokenOptions::validate() const {
  if (factor < 1) {
    throw InputError(
        fmt::format("The factor of token pooling is {}: it must be 1 (no pooling) or more.", factor));
  }
}

namespace api {
namespace {

// The tokens of a prompt that are kept, in their order.
struct Kept {
  std::vector<std::int64_t> positions;
  std::vector<TokenOrigin> origins;
};

TokenOrigin origin_of(const prompt::PromptBuilder& builder, const prompt::EmbedPrompt& prompt,
                      std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  if (prompt.prompt->kinds[at] != base::Modality::kText) return TokenOrigin::kVisual;
  if (prompt.prompt->latent.has(i) || builder.is_special(prompt.prompt->ids[at]))
    return TokenOrigin::kSpecial;
  return i >= prompt.trace_begin && i < prompt.trace_end ? TokenOrigin::kTrace : TokenOrigin::kText;
}

Kept kept_tokens(const prompt::PromptBuilder& builder, const prompt::EmbedPrompt& prompt,
                 const TokenOptions& options) {
  // In the order of TokenOrigin.
  const std::array wanted{options.text, options.visual, options.trace, *options.special};
  Kept kept;
  for (std::int64_t i = 0; i < prompt.prompt->size(); ++i) {
    const TokenOrigin origin = origin_of(builder, prompt, i);
    if (!wanted.at(static_cast<std::size_t>(origin))) continue;
    kept.positions.push_back(i);
    kept.origins.push_back(origin);
  }
  return kept;
}

// Rows that become one, each of tokens of one origin, by their places in `kept`; in the order of their first tokens.
RowGroups groups_of(const Kept& kept, const at::Tensor& rows, const TokenOptions& options) {
  if (options.factor == 1) return group_rows(rows, options.pooling, 1);
  RowGroups out;
  for (const TokenOrigin origin :
       {TokenOrigin::kText, TokenOrigin::kVisual, TokenOrigin::kTrace, TokenOrigin::kSpecial}) {
    std::vector<std::int64_t> own;
    for (std::size_t i = 0; i < kept.origins.size(); ++i) {
      if (kept.origins[i] == origin) own.push_back(static_cast<std::int64_t>(i));
    }
    if (own.empty()) continue;
    const at::Tensor of_origin = rows.index_select(0, at::tensor(own, at::kLong));
    for (std::vector<std::int64_t>& group : group_rows(of_origin, options.pooling, options.factor)) {
      for (std::int64_t& row : group) row = own[static_cast<std::size_t>(row)];
      out.push_back(std::move(group));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

// The mean of some rows [n, dim].
void add_mean(const at::Tensor& rows, const std::vector<std::int64_t>& group, float* out) {
  const std::int64_t dim = rows.size(1);
  for (const std::int64_t row : group) {
    const float* from = rows.const_data_ptr<float>() + row * dim;
    for (std::int64_t k = 0; k < dim; ++k) out[k] += from[k];
  }
  for (std::int64_t k = 0; k < dim; ++k) out[k] /= static_cast<float>(group.size());
}

std::vector<std::uint16_t> to_half(const std::vector<float>& values) {
  std::vector<std::uint16_t> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const c10::Half half(values[i]);
    if (!std::isfinite(static_cast<float>(half))) {
      throw InputError(
          fmt::format("a token has the value {}, which float16 does not hold: ask for float32, or normalise.",
                      values[i]));
    }
    out[i] = half.x;
  }
  return out;
}

TokenRows make_rows(const prompt::PromptBuilder& builder, const prompt::EmbedPrompt& prompt,
                    const at::Tensor& states, const std::vector<float>& pooled, const TokenOptions& options,
                    bool normalize) {
  const auto dim = static_cast<std::int64_t>(pooled.size());
  const Kept kept = kept_tokens(builder, prompt, options);
  const auto count = static_cast<std::int64_t>(kept.positions.size());
  TokenRows out;
  if (count == 0) {
    const std::int64_t row = prompt.pooled_row;
    out.positions = {row};
    out.ids = {row < 0 ? -1 : prompt.prompt->ids[static_cast<std::size_t>(row)]};
    out.origins = {row < 0 ? TokenOrigin::kSpecial : origin_of(builder, prompt, row)};
    out.data = pooled;
  } else {
    const at::Tensor rows = at::empty({count, dim});
    auto* values = rows.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t from = kept.positions[static_cast<std::size_t>(i)];
      finish_vector(states.const_data_ptr<float>() + from * states.size(1), dim, normalize, values + i * dim);
    }
    const RowGroups groups = groups_of(kept, rows, options);
    out.data.resize(groups.size() * pooled.size());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const auto first = static_cast<std::size_t>(groups[i].front());
      float* mean = out.data.data() + i * pooled.size();
      add_mean(rows, groups[i], mean);
      if (normalize && groups[i].size() > 1) finish_vector(mean, dim, true, mean);
      out.positions.push_back(kept.positions[first]);
      out.ids.push_back(prompt.prompt->ids[static_cast<std::size_t>(kept.positions[first])]);
      out.origins.push_back(kept.origins[first]);
    }
  }
  if (!options.float32) out.half = to_half(std::exchange(out.data, {}));
  return out;
}

// Moves the rows of one item behind those before it.
template <typename T>
void move_behind(std::vector<T>& all, std::vector<T>& own) {
  all.insert(all.end(), own.begin(), own.end());
  own = {};
}

}  // namespace

TokenSink::TokenSink(const ModelWithRecipe& embedder, const EmbedOptions& options, const TokenOptions& tokens,
                     std::size_t items)
    : options_(tokens),
      normalize_(options.normalize.value_or(true)),
      dim_(checked_dim(embedder, options)),
      builder_(embedder.builder),
      projections_(embedder.projections),
      items_(items) {
  tokens.validate();
  if (!options_.special) options_.special = embedder.recipe().pooling.pooling == prompt::Pooling::kNone;
  if (!tokens.trace && !builder_->appends_trace()) {
    throw InputError(fmt::format(
        "The recipe \"{}\" writes the trace into the user's turn, where its tokens cannot be told from "
        "others: keep both text and trace.",
        embedder.recipe().name));
  }
}

void TokenSink::store(Call& call, std::size_t item, const prompt::EmbedPrompt& prompt,
                      const at::Tensor& states, std::span<const float> pooled, std::function<void()> then) {
  // The job owns what it reads: it may still run when the call has been left.
  std::function<TokenRows()> job = [builder = builder_, prompt, states = states.contiguous(),
                                    options = options_, normalize = normalize_, projections = projections_,
                                    vector = std::vector<float>(pooled.begin(), pooled.end())] {
    at::Tensor rows = states;
    for (const models::Projection& project : projections) rows = project(rows).contiguous();
    return make_rows(*builder, prompt, rows, vector, options, normalize);
  };
  call.prepare<TokenRows>(item, std::move(job), [this, item, then = std::move(then)](TokenRows rows, double) {
    items_[item] = std::move(rows);
    then();
  });
}

TokenEmbeddings TokenSink::result() {
  TokenEmbeddings out;
  out.dim = dim_;
  out.offsets.push_back(0);
  for (const TokenRows& rows : items_)
    out.offsets.push_back(out.offsets.back() + static_cast<std::int64_t>(rows.ids.size()));
  const auto values = static_cast<std::size_t>(out.offsets.back() * dim_);
  if (options_.float32) {
    out.data.reserve(values);
  } else {
    out.half.reserve(values);
  }
  for (TokenRows& rows : items_) {  // Each goes as it is copied.
    move_behind(out.data, rows.data);
    move_behind(out.half, rows.half);
    move_behind(out.positions, rows.positions);
    move_behind(out.ids, rows.ids);
    move_behind(out.origins, rows.origins);
  }
  return out;
}

at::Tensor pooled_state(const at::Tensor& states, const prompt::EmbedPrompt& prompt,
                        const prompt::PoolingRule& rule) {
  if (rule.pooling == prompt::Pooling::kMean) return states.mean(0);
  return states.select(0, prompt.pooled_row < 0 ? states.size(0) - 1 : prompt.pooled_row);
}

}  // namespace api
}  // namespace tte
