#include "api/model_with_recipe.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "api/handle.h"
#include "base/digest.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/linear_format.h"
#include "base/plain_error.h"
#include "base/threads.h"
#include "prompt/find_recipe.h"

namespace tte {
namespace api {
namespace {

ModelDescription describe(const LoadedModel& loaded, const prompt::Recipe& recipe, const Backend& backend) {
  const models::ModelInfo& info = loaded.model().info();
  ModelDescription out;
  out.path = loaded.files->path;
  out.family = info.family;
  out.dtype = base::dtype_name(info.dtype);
  out.quantization = base::quantization_name(info.linears);
  out.device = backend.device();
  out.hidden_size = info.hidden_size;
  out.num_layers = info.num_layers;
  out.vocab_size = info.vocab_size;
  out.fingerprint = info.fingerprint.hex();
  out.vision_fingerprint = info.vision_fingerprint.hex();
  out.recipe = recipe.source.dump(2);
  out.recipe_reason = recipe.reason;
  return out;
}

// The fingerprint of the model with the projections behind it, which may be in files of their own.
std::string projected_fingerprint(const LoadedModel& loaded,
                                  const std::vector<models::Projection>& projections) {
  base::Digester digester;
  digester.text(loaded.model().info().fingerprint.hex());
  for (const models::Projection& projection : projections) digester.text(projection.fingerprint().hex());
  return digester.finish().hex();
}

// A head says what is pooled, whatever the recipe of its base does.
void take_pooling(const models::HeadInfo& head, prompt::Recipe& recipe) {
  recipe.without_trace.reset();
  if (head.pools || head.mean) recipe.pooling = {};
  if (head.pools) recipe.pooling.pooling = prompt::Pooling::kHead;
  if (head.mean) recipe.pooling.pooling = prompt::Pooling::kMean;
  const bool one_row =
      recipe.pooling.pooling == prompt::Pooling::kLast || recipe.pooling.pooling == prompt::Pooling::kToken;
  if (!head.pools && !head.mean && !one_row) recipe.pooling = {};
}

}  // namespace

ModelWithRecipe::ModelWithRecipe(const std::filesystem::path& checkpoint, const LoadOptions& options,
                                 const Backend& backend_in)
    : backend(backend_in) {
  const base::AvailableThreads threads;
  base::in_plain_words(checkpoint.string(), kLessOfACheckpoint, [&] { load(checkpoint, options); });
}

int ModelWithRecipe::window() const {
  const std::int64_t running = std::int64_t{backend.options().max_running} * std::ssize(loaded->replicas);
  return static_cast<int>(std::min<std::int64_t>(2 * running, std::numeric_limits<int>::max()));
}

void ModelWithRecipe::load(const std::filesystem::path& checkpoint, const LoadOptions& options) {
  // A recipe is read in a moment, weights are not: a mistake in it shows first.
  const base::Checkpoint found = prompt::find_checkpoint(checkpoint, options.adapter);
  const auto files = held(backend.impl(), "Backend")->read_files(found);
  prompt::Recipe recipe = prompt::find_recipe(found, *files, options.recipe, options.template_options);
  loaded = backend.impl()->load(found, options, recipe);
  std::int64_t size = loaded->model().info().hidden_size;
  for (const models::ProjectionOptions& projection : recipe.projections) {
    projections.emplace_back(found, projection, size);
    size = projections.back().outputs();
  }
  const models::ModelInfo& info = loaded->model().info();
  if (!info.head && !recipe.sparse.file.empty() && base::is_present(found / recipe.sparse.file)) {
    sparse = std::make_shared<const models::SparseHeads>(found, recipe.sparse, recipe.pooling.offset,
                                                         info.hidden_size, info.dtype);
  }
  if (info.head) take_pooling(*info.head, recipe);
  builder = std::make_shared<prompt::PromptBuilder>(loaded->files, std::move(recipe),
                                                    options.parse_control_tokens, options.media_limits);
  description = describe(*loaded, builder->recipe(), backend);
  description.parse_control_tokens = options.parse_control_tokens;
  if (!projections.empty()) description.fingerprint = projected_fingerprint(*loaded, projections);
  if (found.is_adapted()) description.base = found.base();
}

}  // namespace api

}  // namespace tte
