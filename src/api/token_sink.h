// Token vectors of one call as they come in.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "api/call.h"
#include "api/model_with_recipe.h"
#include "api/stages.h"
#include "prompt/prompt_builder.h"
#include "tte/embedder.h"

namespace tte::api {

// What is kept of one item.
struct TokenRows {
  std::vector<float> data;  // One of both.
  std::vector<std::uint16_t> half;
  std::vector<std::int64_t> positions, ids;
  std::vector<TokenOrigin> origins;
};

class TokenSink {
 public:
  // Throws InputError for options that contradict the recipe, or are out of range.
  TokenSink(const ModelWithRecipe& embedder, const EmbedOptions& options, const TokenOptions& tokens,
            std::size_t items);

  // Makes the rows of an item from all states of its prompt (float32 [tokens, hidden], CPU) on the media pool; then()
  // follows on the calling thread. `pooled` is the item's vector.
  void store(Call& call, std::size_t item, const prompt::EmbedPrompt& prompt, const at::Tensor& states,
             std::span<const float> pooled, std::function<void()> then);

  // Everything but `pooled`; once.
  TokenEmbeddings result();

 private:
  TokenOptions options_;
  bool normalize_;
  std::int64_t dim_;
  std::shared_ptr<const prompt::PromptBuilder> builder_;
  std::vector<models::Projection> projections_;
  std::vector<TokenRows> items_;
};

// The state of all states [tokens, hidden] that the recipe pools; the last one where it pools none.
at::Tensor pooled_state(const at::Tensor& states, const prompt::EmbedPrompt& prompt,
                        const prompt::PoolingRule& rule);

}  // namespace tte::api
