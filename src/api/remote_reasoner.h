// A Reasoner whose model is behind a server.
#pragma once

#include <memory>

#include "api/reasoner_impl.h"
#include "base/thread_pool.h"
#include "remote/chat.h"
#include "remote/client.h"
#include "tte/remote.h"

namespace tte::api {

class RemoteReasoner final : public Reasoner::Impl {
 public:
  explicit RemoteReasoner(const RemoteOptions& options);

  [[nodiscard]] const ModelDescription& description() const override { return description_; }
  [[nodiscard]] const prompt::Recipe& recipe() const override { return builder_->recipe(); }
  [[nodiscard]] int window() const override { return window_; }
  [[nodiscard]] base::ThreadPool& media_pool() const override { return *media_pool_; }
  [[nodiscard]] const ModelWithRecipe* local() const override { return nullptr; }

  [[nodiscard]] ReadQuestion question_reader() const override;
  void think(Call& call, const ThinkJob& job, Thought then) const override;

 private:
  std::shared_ptr<const remote::ChatBuilder> builder_;
  std::unique_ptr<remote::Client> client_;
  std::unique_ptr<base::ThreadPool> media_pool_;
  ModelDescription description_;
  int window_;
};

}  // namespace tte::api
