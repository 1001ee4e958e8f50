// A loaded model read through a recipe: what Reasoner and Embedder are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "api/backend_impl.h"
#include "models/projection.h"
#include "models/sparse_heads.h"
#include "prompt/prompt_builder.h"
#include "tte/backend.h"
#include "tte/embedder.h"
#include "tte/options.h"
#include "tte/reasoner.h"

namespace tte {

namespace api {

// What to do about a checkpoint that wants more memory than there is.
inline constexpr std::string_view kLessOfACheckpoint =
    "load it as bfloat16, lower the backend's state_bytes or vision_cache_bytes, or let other models go "
    "first";

struct ModelWithRecipe {
  ModelWithRecipe(const std::filesystem::path& checkpoint, const LoadOptions& options,
                  const Backend& backend);

  Backend backend;
  std::shared_ptr<const LoadedModel> loaded;
  std::shared_ptr<const prompt::PromptBuilder> builder;
  ModelDescription description;
  std::vector<models::Projection> projections;  // Applied to pooled states in this order.

  std::shared_ptr<const models::SparseHeads> sparse;  // Null where the recipe or the checkpoint has none.

  // Values of a vector.
  [[nodiscard]] std::int64_t dim() const {
    return projections.empty() ? loaded->model().info().hidden_size : projections.back().outputs();
  }
  [[nodiscard]] engine::Engine& engine(std::size_t replica) const {
    return *loaded->replicas.at(replica).engine;
  }
  [[nodiscard]] Router& router() const { return backend.impl()->router(); }
  [[nodiscard]] const prompt::Recipe& recipe() const { return builder->recipe(); }
  // Items that are held at a time: what the engines run, and as many that are being prepared.
  [[nodiscard]] int window() const;

 private:
  void load(const std::filesystem::path& checkpoint, const LoadOptions& options);
};

}  // namespace api

class Embedder::Impl : public api::ModelWithRecipe {
 public:
  using ModelWithRecipe::ModelWithRecipe;
};

}  // namespace tte
