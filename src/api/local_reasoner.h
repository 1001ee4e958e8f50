// A Reasoner whose model is loaded here.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "api/reasoner_impl.h"

namespace tte::api {

class LocalReasoner final : public Reasoner::Impl {
 public:
  LocalReasoner(const std::filesystem::path& checkpoint, const LoadOptions& options, const Backend& backend);

  [[nodiscard]] const ModelDescription& description() const override { return model_.description; }
  [[nodiscard]] const prompt::Recipe& recipe() const override { return model_.recipe(); }
  [[nodiscard]] int window() const override { return model_.window(); }
  [[nodiscard]] base::ThreadPool& media_pool() const override { return model_.backend.impl()->media_pool(); }
  [[nodiscard]] const ModelWithRecipe* local() const override { return &model_; }

  [[nodiscard]] ReadQuestion question_reader() const override;
  void think(Call& call, const ThinkJob& job, Thought then) const override;

 private:
  ModelWithRecipe model_;
  std::vector<std::shared_ptr<engine::Draft>> drafts_;  // One of each replica, or none.
};

}  // namespace tte::api
