// What models loaded on one backend share.
#pragma once

#include <c10/core/Device.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/replicas.h"
#include "base/checkpoint.h"
#include "base/thread_pool.h"
#include "engine/draft.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "prompt/checkpoint_files.h"
#include "prompt/recipe.h"
#include "tte/backend.h"
#include "weights/state_dict.h"
#include "weights/weight_store.h"

namespace tte {

namespace api {

// A checkpoint with its weights and its engines.
struct LoadedModel {
  // What runs it on one replica: the model has room for the states of this engine only. Replicas on one device share
  // the weights.
  struct Replica {
    std::shared_ptr<const models::Model> model;
    std::unique_ptr<engine::Engine> engine;
  };

  base::Checkpoint checkpoint;
  std::shared_ptr<const prompt::CheckpointFiles> files;
  std::vector<Replica> replicas;

  // For what holds of all of them.
  [[nodiscard]] const models::Model& model() const { return *replicas.front().model; }
};

}  // namespace api

class Backend::Impl {
 public:
  explicit Impl(const BackendOptions& options);

  // What a checkpoint's folders say, shared by all who read the same ones at a time.
  std::shared_ptr<const prompt::CheckpointFiles> read_files(const base::Checkpoint& checkpoint);
  // The live model of the same folders, dtype, quantization and bidirectional layers, or a newly loaded one. Loads of
  // one backend wait for each other, so that two threads that ask for the same model get the same.
  std::shared_ptr<const api::LoadedModel> load(const base::Checkpoint& checkpoint, const LoadOptions& options,
                                               const prompt::Recipe& recipe);

  // What guesses for the replicas of `target`. Throws ModelError for a model that cannot.
  std::vector<std::shared_ptr<engine::Draft>> load_draft(const api::LoadedModel& target,
                                                         const DraftOptions& options);

  [[nodiscard]] const BackendOptions& options() const { return options_; }
  [[nodiscard]] const std::vector<std::string>& dtypes() const {
    return replicas_.front().share.devices.front().dtypes;
  }
  [[nodiscard]] std::vector<BackendStats> replica_stats();
  [[nodiscard]] base::ThreadPool& media_pool() { return *media_pool_; }
  [[nodiscard]] api::Router& router() { return *router_; }

 private:
  struct Replica {
    api::Share share;
    std::shared_ptr<engine::Executor> executor;
  };

  // Where the tensors of a checkpoint go, on the first device.
  [[nodiscard]] weights::Placement placement_of(const base::Checkpoint& checkpoint, const std::string& dtype,
                                                const std::string& quantization) const;
  // The model of each replica, whose states take one part of `state_parts` of what it has for them. Tensors that are
  // there already are not loaded again.
  [[nodiscard]] std::vector<std::shared_ptr<const models::Model>> load_models(
      const base::Checkpoint& checkpoint, models::ModelOptions options, std::int64_t state_parts = 1) const;

  BackendOptions options_;
  std::shared_ptr<weights::WeightStore> store_;
  std::vector<Replica> replicas_;
  std::unique_ptr<api::Router> router_;
  std::unique_ptr<base::ThreadPool> media_pool_;
  std::mutex load_mutex_, files_mutex_;
  std::map<std::string, std::weak_ptr<const prompt::CheckpointFiles>> files_;
  std::mutex models_mutex_;
  std::map<std::string, std::weak_ptr<const api::LoadedModel>> models_;
};

}  // namespace tte
